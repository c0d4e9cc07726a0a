"""Criteria that look at what weights are multiplied with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from explorer.pruning.criteria.magnitude import Named
from explorer.pruning.criteria.subject import Subject
from explorer.utils.modules import run, without_fused_layers, without_fused_recurrence
from spaces import PruningError, first_line

__all__ = ["wanda"]


def wanda(subject: Subject) -> Named:
    """Return |weight| * ||x||, the norm over all inputs and positions of what the weight is multiplied with.

    In a convolution that is the input channel shifted to the kernel position, padding included. The paper compares the
    weights of one output only; here, as by any criterion, those of a whole layer.
    """
    unfused = without_fused_recurrence(subject.model)
    with subject.borrowed(), torch.no_grad(), without_fused_layers(), unfused, _Inputs(subject.weights) as inputs:
        for batch in subject.batches:
            try:
                run(subject.model, batch[0])
            except Exception as error:
                line = first_line(error)[:300]
                raise PruningError(f"criterion: wanda: forward raised {type(error).__name__} ({line})") from None
    subject.check_reached(inputs.seen, "what it is multiplied with was not seen")
    for name, weight in subject.weights.items():
        yield name, weight.detach().cpu().double().abs() * inputs.norms(weight)


class _Inputs(TorchDispatchMode):
    """Gathers the squares of what every entry of some weights is multiplied with, while it is entered.

    Weights are told by their memory: whatever view of one is multiplied, its sizes and strides say which entries it
    holds. So fused projections, shared modules and weights that functions are called with are all seen.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self._names: dict[int, list[str]] = {}
        self._squares: dict[int, Tensor] = {}
        for name, weight in weights.items():
            memory = weight.untyped_storage()
            self._names.setdefault(memory.data_ptr(), []).append(name)
            entries = memory.nbytes() // weight.element_size()
            self._squares[memory.data_ptr()] = torch.zeros(entries, dtype=torch.float64)

    def norms(self, weight: Tensor) -> Tensor:
        """Return the norm of what every entry of a weight was multiplied with, of the weight's shape."""
        return self._entries(weight).sqrt()

    def _entries(self, view: Tensor) -> Tensor:
        squares = self._squares[view.untyped_storage().data_ptr()]
        return squares.as_strided(view.shape, view.stride(), view.storage_offset())

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        rule = _RULES.get(func)
        if rule is not None:
            place, squares = rule
            memory = args[place].untyped_storage().data_ptr()
            if memory in self._names:
                self._entries(args[place]).add_(squares(*args).cpu())
                self.seen.update(self._names[memory])
        return func(*args, **kwargs or {})


def _product(source: Tensor, weight: Tensor) -> Tensor:
    """Return the squares of what a matrix [K, N] is multiplied with, as [K, 1]."""
    return source.double().square().sum(0)[:, None]


def _convolution(
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
) -> Tensor:
    """Return the squares of what a convolution's weight is multiplied with, of its shape.

    A convolution is linear in its weight: the derivative of the sum of its outputs is the sum of all that an entry is
    multiplied with. One output channel of each group tells that of all, and one input, of all inputs' squares.
    """
    squares = source.double().square().sum(0, keepdim=True)
    one = weight[:, :1] if transposed else weight[:groups]
    options = (stride, padding, dilation, transposed, output_padding, groups)
    ones = torch.ones_like(torch.ops.aten.convolution(squares, one.double(), None, *options))
    found = torch.ops.aten.convolution_backward(ones, squares, one.double(), None, *options, [False, True, False])[1]
    if transposed:
        return found.expand_as(weight)
    return found.repeat_interleave(weight.size(0) // groups, 0)


# of operators with a weight: where it stands among the arguments, and the squares of what it is multiplied with
_RULES: Mapping[Any, tuple[int, Callable[..., Tensor]]] = {
    torch.ops.aten.mm.default: (1, _product),
    torch.ops.aten.addmm.default: (2, lambda bias, source, weight: _product(source, weight)),
    torch.ops.aten.convolution.default: (1, _convolution),
}
