"""Task: what a network is for - its loss, the metric that is minimised, and what the trivial predictor reaches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.tracing.running import run

__all__ = ["CLASSIFICATION", "Task", "prediction", "wrong"]


def prediction(output: Any) -> Any:
    """Return what a loss takes of a model's output: its ``logits`` where it has them, else the output itself.

    Models of transformers return an object with logits, those of torchvision with auxiliary heads a tuple with
    them; of any other tuple or list the first entry is taken.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    return output[0] if isinstance(output, tuple | list) and output else output


def wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Return for each input whether its class, the greatest of the logits [n, classes], is wrong."""
    return (logits.argmax(1) != labels).to(torch.float32)


@dataclass(frozen=True)
class Task:
    """What a network's outputs are compared with.

    Parameters
    ----------
    loss
        From predictions and targets to the mean loss of a batch.
    metric
        From predictions and targets to one value for each input [n], or to one of the batch; or an object with
        ``update``, ``compute`` and ``reset`` such as those of torchmetrics.
    name
        What the metric is called in tables and plots.
    trivial
        Value of the metric that needs no network, such as that of always predicting the mean: the reference of the
        hypervolume.
    higher_is_better
        Whether good networks have a high value. Then 1 - value is minimised. By default what the metric says.
    prediction
        From a model's output to what loss and metric take.
    """

    loss: Callable[[Any, Any], Tensor] = F.cross_entropy
    metric: Any = wrong
    name: str = "error"
    trivial: float | None = None
    higher_is_better: bool | None = None
    prediction: Callable[[Any], Any] = prediction

    def forward(self, model: nn.Module, inputs: Any) -> Any:
        """Return the predictions for inputs: a tensor, a tuple of positional or a mapping of keyword arguments."""
        return self.prediction(run(model, inputs))


CLASSIFICATION = Task()
"""Single-label classification: cross-entropy, and the share of inputs classified wrongly."""
