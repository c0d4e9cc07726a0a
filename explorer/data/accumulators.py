"""Accumulator of a metric over the batches of an evaluation, and how sure their mean is."""

from __future__ import annotations

import copy
import math
from typing import Any, Protocol

import torch
from torch import Tensor

from explorer.data import size_of

__all__ = ["Accumulator", "accumulator_of"]


class Accumulator(Protocol):
    """The values of a metric so far."""

    def add(self, predictions: Any, targets: Any) -> None:
        """Take in another batch."""

    def mean(self, weights: Tensor) -> tuple[float, float]:
        """Return the metric over all batches, with its standard error, NaN where that is unknown.

        Parameters
        ----------
        weights
            Each batch's share of the inputs, float64.
        """

    @property
    def size(self) -> int:
        """How many values the standard error is of: one an input or a batch; 0 where there is none."""


def accumulator_of(metric: Any) -> Accumulator:
    """Return an empty record: of a function, of an object with update, compute and reset, or of an accumulator."""
    if all(hasattr(metric, name) for name in ("add", "mean", "size")):
        # one network's values are no start for the next
        return copy.deepcopy(metric)
    stateful = all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset"))
    return _Stateful(metric) if stateful else _Computed(metric)


class _Computed:
    """Of a function that gives a value for each input, with its weight or without, or one for a batch."""

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._found: list[Tensor] = []
        self._weights: list[Tensor] = []

    def add(self, predictions: Any, targets: Any) -> None:
        found = self._metric(predictions, targets)
        pair = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        value = torch.as_tensor(pair[0])
        weight = torch.ones_like(value) if pair[1] is None else torch.as_tensor(pair[1])
        if value.dim() and not list(value.shape) == list(weight.shape) == [size_of(targets)]:
            raise ValueError(f"it returns {list(value.shape)}, needed is one value for each input or for the batch")
        self._found.append(value)
        self._weights.append(weight)

    def mean(self, weights: Tensor) -> tuple[float, float]:
        if self._found[0].dim():
            values, each = (torch.cat(part).double().cpu() for part in (self._found, self._weights))
            ratio = float(each @ values / each.sum())
            # of a ratio of two sums over inputs, which are what was drawn
            return ratio, float((each * (values - ratio)).norm() / each.sum())
        values = torch.stack(self._found).double().cpu()
        mean = weights @ values
        if len(values) < 2:
            return float(mean), math.nan
        # of batches as the sample; one that is shorter counts for less
        variance = weights.square() @ (values - mean).square() * len(values) / (len(values) - 1)
        return float(mean), math.sqrt(float(variance))

    @property
    def size(self) -> int:
        return sum(value.numel() for value in self._found)


class _Stateful:
    def __init__(self, metric: Any) -> None:
        # a metric is no place to leave results of one network to the next
        self._metric = copy.deepcopy(metric)
        self._metric.reset()

    def add(self, predictions: Any, targets: Any) -> None:
        if isinstance(predictions, Tensor) and callable(getattr(self._metric, "to", None)):
            self._metric = self._metric.to(predictions.device)
        self._metric.update(predictions, targets)

    def mean(self, weights: Tensor) -> tuple[float, float]:
        value = torch.as_tensor(self._metric.compute(), dtype=torch.float64)
        if value.numel() != 1:
            raise ValueError(f"compute returns {list(value.shape)}, needed is one number")
        return float(value), math.nan

    @property
    def size(self) -> int:
        return 0
