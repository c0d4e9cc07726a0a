"""A network's training: epochs along a cosine, what is minimised, and a state from which it continues."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import length_hint
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from explorer.data import Batch, moved, size_of
from explorer.data.task import Task
from explorer.evaluation.settings import Settings
from explorer.evaluation.training.averaging import Average
from explorer.evaluation.training.distillation import distance
from explorer.evaluation.training.optimization import optimizer_of, precision_of
from explorer.utils.modules import device_of, tensors_of
from spaces.errors import PruningError, first_line

__all__ = ["Epoch", "Trainer", "train"]


@dataclass(frozen=True)
class Epoch:
    """What one epoch of training did.

    Attributes
    ----------
    number
        1, 2, ...
    loss
        Mean training loss over the epoch, with label smoothing and distillation.
    learning_rate
        Of the epoch's last step.
    seconds
        Wall-clock time of the epoch.
    images
        How many inputs it saw.
    """

    number: int
    loss: float
    learning_rate: float
    seconds: float
    images: int


class Trainer:
    """One network in training: its optimizer, its averaged weights and its teacher.

    Randomness comes from the batches (and from the model's dropout, if any), none from here.

    Parameters
    ----------
    model
        Trained in place, on the device it lies on.
    task
        Whose loss is minimised.
    settings
        How.
    teacher
        In eval mode, on the same device; needed where the settings ask for distillation.
    backward
        From a batch to its loss, whose gradients it leaves in the model; by default what task, settings and teacher
        say.

    Raises
    ------
    PruningError
        If nothing of the model can be trained.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        task: Task,
        settings: Settings,
        teacher: nn.Module | None = None,
        backward: Callable[[Any, Any], Tensor] | None = None,
    ) -> None:
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not parameters:
            raise PruningError(
                "training: every parameter of the model is frozen; model.requires_grad_(True) thaws them"
            )
        self.model, self.task, self.settings, self.teacher = model, task, settings, teacher
        self.optimizer = optimizer_of(parameters, settings)
        self.average = Average(model, settings.ema) if settings.ema else None
        self._device = device_of(model)
        self._normalises = any(isinstance(module, _BatchNorm) for module in model.modules())
        self._backward = backward or self._descend
        # of an epoch; 0 until it is known
        self._steps = 0

    def epoch(self, batches: Iterable[Batch], *, number: int, begun: int, of: int) -> Epoch:
        """Train for an epoch.

        Parameters
        ----------
        batches
            Inputs and targets; without a length, the first epoch runs at the full learning rate. Where there is batch
            norm, one of a single input after larger ones is left out.
        number
            What the epoch is called.
        begun, of
            How many epochs of its stretch are done, and how many there are: where on the cosine it is.

        Raises
        ------
        PruningError
            If the model or the loss raises, the mean loss is infinite or NaN, or `batches` yields nothing.
        """
        start, seen, done = time.perf_counter(), 0, 0
        settings, group = self.settings, self.optimizer.param_groups[0]
        steps = self._steps or min(length_hint(batches), settings.steps or sys.maxsize)
        # summed on the device: reading a number back at every step would stall a GPU
        loss_sum = torch.zeros((), device=self._device)
        self.model.train()
        for batch in islice(batches, settings.steps):
            progress = (begun + (done / steps if steps else 0)) / of
            group["lr"] = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1)))
            inputs, targets = moved(batch, self._device)
            if self._normalises and size_of(targets) == 1 and seen > done:
                # left over at the end of a data set; batch norm can't train on one input
                continue
            self.optimizer.zero_grad()
            try:
                loss = self._backward(inputs, targets)
            except Exception as error:
                line = first_line(error)[:300]
                raise PruningError(f"training: {type(error).__name__} in epoch {number} ({line})") from error
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
            loss_sum += loss * size_of(targets)
            seen, done = seen + size_of(targets), done + 1
        if not seen:
            raise PruningError("training: the batches are empty; an iterator can be read only once")
        mean = loss_sum.item() / seen
        if not math.isfinite(mean):
            rate = f"learning_rate={settings.learning_rate}"
            raise PruningError(f"training: the loss became {mean} in epoch {number}; lower {rate}")
        self._steps = done
        return Epoch(number, mean, group["lr"], time.perf_counter() - start, seen)

    def _descend(self, inputs: Any, targets: Any) -> Tensor:
        loss = self._loss(inputs, targets)
        loss.backward()
        return loss.detach()

    def _loss(self, inputs: Any, targets: Any) -> Tensor:
        settings, task = self.settings, self.task
        smoothing = {"label_smoothing": settings.label_smoothing} if settings.label_smoothing else {}
        with precision_of(settings, self._device):
            predictions = task.forward(self.model, inputs)
            if not settings.distillation or self.teacher is None:
                return task.loss(predictions, targets, **smoothing)
            with torch.no_grad():
                wanted = task.forward(self.teacher, inputs)
            weight = settings.distillation
            far = distance(task, predictions, wanted, temperature=settings.temperature)
            # a weight of 1 needs no labels, which a user's loss may refuse
            return far if weight == 1 else weight * far + (1 - weight) * task.loss(predictions, targets, **smoothing)

    def state(self) -> dict[str, Any]:
        """Return all that `load` needs to continue bit for bit: tensors and plain values."""
        return {
            "tensors": {name: value.detach() for name, value in tensors_of(self.model).items()},
            "optimizer": self.optimizer.state_dict(),
            "average": None if self.average is None else self.average.state(),
            "steps": self._steps,
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of a network of the same shapes, trained with the same settings."""
        own = tensors_of(self.model)
        if own.keys() != state["tensors"].keys():
            raise PruningError("training: the state is another network's")
        for name, value in state["tensors"].items():
            own[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load(state["average"])
        self._steps = state["steps"]


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    *,
    task: Task,
    epochs: int,
    settings: Settings,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train a network along half a cosine of learning rates; return one `Epoch` each.

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
    settings
        How.
    on_epoch
        Called after every epoch; what it raises ends the training.

    Raises
    ------
    PruningError
        If the model or the loss raises, the loss becomes infinite or NaN, nothing can be trained, `batches` yields
        nothing, or the loss knows no label smoothing.
    """
    settings.check(task, "training")
    trainer = Trainer(model, task=task, settings=settings)
    history: list[Epoch] = []
    for done in range(epochs):
        epoch = trainer.epoch(batches, number=done + 1, begun=done, of=epochs)
        history.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)
    model.eval()
    return history
