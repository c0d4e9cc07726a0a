"""Metrics: what can be an objective, a budget, a column or a plot's axis; a table, so that a new one is a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spaces import PruningError, unknown

__all__ = ["METRICS", "OBJECTIVES", "Metric", "checked_objectives", "error_metric"]


@dataclass(frozen=True)
class Metric:
    """A column of the trials table; all are minimised.

    Parameters
    ----------
    key
        The column's name.
    label
        What a plot's axis says, with the unit.
    scale
        By which values are multiplied for plots and printed tables.
    cost
        Whether it is a cost, which objectives and the hypervolume take relative to the dense network.
    """

    key: str
    label: str
    scale: float = 1.0
    cost: bool = False

    def text(self, value: float) -> str:
        """Return a value as tables show it, nothing for NaN: per cent with two places, others with four digits."""
        if math.isnan(value):
            return ""
        return f"{self.scale * value:.2f}" if self.scale == 100 else f"{self.scale * value:.4g}"


METRICS: Mapping[str, Metric] = {
    metric.key: metric
    for metric in [
        Metric("error", "validation error (%)", 100),
        Metric("loss", "validation loss (nats)"),
        Metric("flops", "multiply-adds (M)", 1e-6, cost=True),
        Metric("params", "parameters (M)", 1e-6, cost=True),
        Metric("bytes", "size (MiB)", 2**-20, cost=True),
        Metric("memory", "weights, keys and values (MiB)", 2**-20, cost=True),
        Metric("latency_ms", "latency, batch 1 (ms)", cost=True),
    ]
}

OBJECTIVES: Mapping[str, str] = {
    "error": "error",
    "loss": "loss",
    "flops": "flops_ratio",
    "params": "params_ratio",
    "bytes": "bytes_ratio",
    "memory": "memory_ratio",
    "latency": "latency_ratio",
}
"""Objective -> the column a study minimises; costs are relative to the dense network."""


def error_metric(label: str, scale: float) -> Metric:
    """Return the row of `METRICS` for the error of a task, which says what it is called and how it is shown."""
    return replace(METRICS["error"], label=f"validation {label}", scale=scale)


def checked_objectives(objectives: Any) -> None:
    """Check that `objectives` is a list of different keys of `OBJECTIVES`.

    Raises
    ------
    PruningError
        If it is anything else.
    """
    if isinstance(objectives, str) or not isinstance(objectives, Sequence) or not objectives:
        raise PruningError(f"objectives: {objectives!r}, allowed is a list of metrics: {', '.join(OBJECTIVES)}")
    for objective in objectives:
        if not isinstance(objective, str) or objective not in OBJECTIVES:
            raise unknown("objectives", objective, OBJECTIVES)
        if list(objectives).count(objective) > 1:
            raise PruningError(f"objectives: {objective!r} is named twice")
