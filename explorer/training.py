"""Training a network, re-estimating its batch normalisation, and measuring its error."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import length_hint

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from spaces.errors import PruningError

__all__ = ["Epoch", "Evaluation", "evaluate", "reestimate_bn", "train"]

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training did.

    Attributes
    ----------
    number
        1, 2, ...
    loss
        Mean training loss over the epoch, with label smoothing.
    error
        Share of (augmented) training images classified wrongly during the epoch, 0..1.
    learning_rate
        Of the epoch's last step.
    seconds
        Wall-clock time of the epoch.
    """

    number: int
    loss: float
    error: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """How well a network classifies.

    Attributes
    ----------
    error
        Share of the inputs classified wrongly, 0..1.
    error_se
        Standard error of `error`, ``sqrt(error * (1 - error) / n)``.
    loss
        Mean cross-entropy, in nats.
    n
        Number of inputs.
    """

    error: float
    error_se: float
    loss: float
    n: int


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    epochs: int,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.0,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a classifier by SGD with Nesterov momentum and a cosine schedule; return one `Epoch` each.

    Randomness comes from the batches (and from the model's dropout, if any), none from here.

    Parameters
    ----------
    model
        Changed in place and left in eval mode. It is trained on the device it lies on.
    batches
        Pairs (inputs, labels); read once an epoch, so it must be readable again and again.
    epochs
        At least 0.
    learning_rate
        At the first step; falls to 0 along half a cosine. Steps count if `batches` has a length, else the
        first epoch runs at this rate.
    momentum, weight_decay, label_smoothing
        As torch's SGD and cross-entropy define them. ``momentum`` above 0 (Nesterov).
    on_epoch
        Called after every epoch; what it raises ends the training.

    Raises
    ------
    PruningError
        If the loss becomes infinite or NaN, or `batches` yields nothing.
    """
    device = _device(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, learning_rate, momentum=momentum, weight_decay=weight_decay, nesterov=True)
    history: list[Epoch] = []
    steps = length_hint(batches)
    model.train()
    for number in range(1, epochs + 1):
        start, seen, done = time.perf_counter(), 0, 0
        # summed on the device: reading a number back at every step would stall a GPU
        loss_sum, wrong = torch.zeros((), device=device), torch.zeros((), device=device)
        for x, y in batches:
            progress = (number - 1 + (done / steps if steps else 0)) / epochs
            optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
            x, y = x.to(device), y.to(device)
            logits = model(x)
            loss = F.cross_entropy(logits, y, label_smoothing=label_smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss_sum += loss.detach() * len(y)
            wrong += (logits.detach().argmax(1) != y).sum()
            seen, done = seen + len(y), done + 1
        if not seen:
            raise PruningError("training: the batches are empty; an iterator can be read only once")
        mean = loss_sum.item() / seen
        if not math.isfinite(mean):
            raise PruningError(f"training: the loss became {mean} in epoch {number}; lower {learning_rate=}")
        steps = done
        rate = optimizer.param_groups[0]["lr"]
        epoch = Epoch(number, mean, wrong.item() / seen, rate, time.perf_counter() - start)
        history.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)
    model.eval()
    return history


def reestimate_bn(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Replace the running statistics of every batch normalisation by those over `batches`.

    Each batch has equal weight, as in EagleEye. Everything but batch normalisation runs in eval mode, and
    modes and momenta are restored. A model without running statistics costs nothing.

    Parameters
    ----------
    model
        Its running statistics are changed in place.
    batches
        At least one pair (inputs, labels); labels are not used. Unaugmented, and the same for every
        sub-network that is to be compared.

    Raises
    ------
    PruningError
        If there are no batches.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.running_mean is not None
    ]
    if not norms:
        return
    if not batches:
        raise PruningError("BN re-estimation: no batches to estimate the statistics from")
    device = _device(model)
    momenta = [norm.momentum for norm in norms]
    with _modes_restored(model), torch.no_grad():
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for a cumulative average
            norm.train()
        try:
            for x, _ in batches:
                model(x.to(device))
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def evaluate(model: nn.Module, batches: Iterable[Batch]) -> Evaluation:
    """Return the error and the loss of a classifier, in eval mode; its modes are restored.

    Parameters
    ----------
    model
        Not changed. Gives logits [n, classes].
    batches
        Pairs (inputs, labels [n]).

    Raises
    ------
    PruningError
        If there are no inputs, or the loss is infinite or NaN.
    """
    device = _device(model)
    n = 0
    loss_sum = torch.zeros((), device=device)
    wrong = torch.zeros((), dtype=torch.int64, device=device)
    with _modes_restored(model):
        model.eval()
        for x, y in batches:
            # only here, so that whatever a loader keeps between readings can still be trained on
            with torch.inference_mode():
                y = y.to(device)
                logits = model(x.to(device)).float()
                loss_sum += F.cross_entropy(logits, y, reduction="sum")
                wrong += (logits.argmax(1) != y).sum()
            n += len(y)
    if not n:
        raise PruningError("evaluation: the batches are empty; an iterator can be read only once")
    error, loss = wrong.item() / n, loss_sum.item() / n
    if not math.isfinite(loss):
        raise PruningError(f"evaluation: the mean loss is {loss}; the network's outputs are not finite")
    return Evaluation(error, math.sqrt(error * (1 - error) / n), loss, n)


@contextmanager
def _modes_restored(model: nn.Module) -> Iterator[None]:
    """Give every module its training flag back: `model.train()` would thaw what a user froze."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


def _device(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter; the CPU for a model without any."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
