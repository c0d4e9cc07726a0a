"""Training a network, and re-estimating its batch normalisation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import length_hint

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from explorer.data import Batch, moved, size_of
from explorer.running import device_of, modes_restored
from explorer.task import Task
from explorer.tracing import run
from spaces.errors import PruningError

__all__ = ["Epoch", "reestimate_bn", "train"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training did.

    Attributes
    ----------
    number
        1, 2, ...
    loss
        Mean training loss over the epoch, with label smoothing.
    learning_rate
        Of the epoch's last step.
    seconds
        Wall-clock time of the epoch.
    """

    number: int
    loss: float
    learning_rate: float
    seconds: float


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    task: Task,
    epochs: int,
    learning_rate: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.0,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a network by SGD with Nesterov momentum and a cosine schedule; return one `Epoch` each.

    Randomness comes from the batches (and from the model's dropout, if any), none from here.

    Parameters
    ----------
    model
        Changed in place and left in eval mode. It is trained on the device it lies on.
    batches
        Inputs and targets; read once an epoch, so it must be readable again and again.
    task
        Whose loss is minimised.
    epochs
        At least 0.
    learning_rate
        At the first step; falls to 0 along half a cosine. Steps count if `batches` has a length, else the
        first epoch runs at this rate.
    momentum, weight_decay, label_smoothing
        As torch's SGD and cross-entropy define them. ``momentum`` above 0 (Nesterov); a loss other than
        cross-entropy has no smoothing.
    on_epoch
        Called after every epoch; what it raises ends the training.

    Raises
    ------
    PruningError
        If the model or the loss raises, the loss becomes infinite or NaN, nothing can be trained, `batches` yields
        nothing, or the loss knows no label smoothing.
    """
    if label_smoothing and task.loss is not F.cross_entropy:
        raise PruningError(f"training.label_smoothing: {label_smoothing}, allowed is 0 for this task's loss")
    smoothing = {"label_smoothing": label_smoothing} if label_smoothing else {}
    device = device_of(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise PruningError("training: every parameter of the model is frozen; model.weights takes trained ones")
    optimizer = torch.optim.SGD(parameters, learning_rate, momentum=momentum, weight_decay=weight_decay, nesterov=True)
    history: list[Epoch] = []
    steps = length_hint(batches)
    model.train()
    for number in range(1, epochs + 1):
        start, seen, done = time.perf_counter(), 0, 0
        # summed on the device: reading a number back at every step would stall a GPU
        loss_sum = torch.zeros((), device=device)
        for batch in batches:
            progress = (number - 1 + (done / steps if steps else 0)) / epochs
            optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
            inputs, targets = moved(batch, device)
            try:
                loss = task.loss(task.forward(model, inputs), targets, **smoothing)
                optimizer.zero_grad()
                loss.backward()
            except Exception as error:
                line = (str(error).splitlines() or [""])[0][:300]
                raise PruningError(f"training: {type(error).__name__} in epoch {number} ({line})") from error
            optimizer.step()
            loss_sum += loss.detach() * size_of(targets)
            seen, done = seen + size_of(targets), done + 1
        if not seen:
            raise PruningError("training: the batches are empty; an iterator can be read only once")
        mean = loss_sum.item() / seen
        if not math.isfinite(mean):
            raise PruningError(f"training: the loss became {mean} in epoch {number}; lower {learning_rate=}")
        steps = done
        rate = optimizer.param_groups[0]["lr"]
        epoch = Epoch(number, mean, rate, time.perf_counter() - start)
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
        At least one; targets are not used. Unaugmented, and the same for every sub-network that is to be compared.

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
    device = device_of(model)
    momenta = [norm.momentum for norm in norms]
    with modes_restored(model), torch.no_grad():
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for a cumulative average
            norm.train()
        try:
            for batch in batches:
                run(model, moved(batch, device)[0])
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
