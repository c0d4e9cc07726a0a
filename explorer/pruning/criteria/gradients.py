"""Criteria that estimate by the loss's gradient what removing a weight would do to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from explorer.data import Batch
from explorer.pruning.criteria.magnitude import Named
from explorer.pruning.criteria.subject import Subject
from spaces import PruningError, first_line

__all__ = ["obd", "taylor"]


def taylor(subject: Subject) -> Named:
    """Return |weight * gradient|, the mean over batches: the change of the loss to first order.

    Magnitudes are taken of every weight and every batch before anything is averaged or summed, so that the weights of
    a channel whose effects have opposite signs do not cancel; weights and channels then share one score.
    """
    return _mean(subject, torch.abs)


def obd(subject: Subject) -> Named:
    """Return weight^2 * gradient^2 / 2, the mean over batches: the change of the loss to second order.

    The diagonal of the Hessian is estimated by the empirical Fisher information with the gradients of whole batches:
    one backward pass a batch, where those of single inputs would take one an input.
    """
    return _mean(subject, lambda change: 0.5 * change.square())


def _mean(subject: Subject, function: Callable[[Tensor], Tensor]) -> Named:
    """Yield for every weight the mean over batches of a function of weight * gradient."""
    if any(weight.is_inference() for weight in subject.weights.values()):
        name = subject.options.name
        raise PruningError(f"criterion: {name} needs gradients, which weights made in inference mode can't have")
    totals: dict[str, Tensor] = {}
    with subject.borrowed(), _differentiable(subject.weights.values()):
        for batch in subject.batches:
            gradients = _gradients(subject, batch, list(subject.weights.values()))
            for (name, weight), gradient in zip(subject.weights.items(), gradients, strict=True):
                if gradient is not None:
                    value = function(weight.detach().cpu().double() * gradient.cpu().double())
                    totals[name] = totals[name].add_(value) if name in totals else value
    subject.check_reached(totals, "the loss does not depend on it: is a part of the model's forward under no_grad?")
    for name, weight in subject.weights.items():
        yield name, totals.pop(name) / len(subject.batches) if name in totals else torch.zeros(weight.shape).double()


def _gradients(subject: Subject, batch: Batch, weights: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return the gradients of a batch's mean loss; None of what it does not depend on."""
    assert subject.task is not None
    # what was made in inference mode can't be kept for a backward pass
    inputs, targets = _each(Tensor.clone, tuple(batch))
    try:
        with torch.enable_grad():
            # losses of half precision are coarse, and some are not there
            predictions = _each(_in_single_precision, subject.task.forward(subject.model, inputs))
            loss = subject.task.loss(predictions, targets)
        if not loss.requires_grad:
            return (None,) * len(weights)
        return torch.autograd.grad(loss, weights, allow_unused=True)
    except Exception as error:
        line = first_line(error)[:300]
        name = subject.options.name
        raise PruningError(f"criterion: {name}: the loss's gradient raised {type(error).__name__} ({line})") from None


@contextmanager
def _differentiable(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Let tensors have gradients, frozen or not."""
    flags = [(tensor, tensor.requires_grad) for tensor in tensors]
    try:
        for tensor, _ in flags:
            tensor.requires_grad_(True)
        yield
    finally:
        for tensor, flag in flags:
            tensor.requires_grad_(flag)


def _each(change: Callable[[Tensor], Tensor], part: Any) -> Any:
    return tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, part)


def _in_single_precision(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
