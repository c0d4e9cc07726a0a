"""A run's budget: the part that is known exactly before an evaluation, and the part that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explorer.utils.checks import checked_number
from spaces import COSTS, Budget, PruningError, unknown
from spaces.budget import BOUNDED

__all__ = ["LatencyLimit", "split_budget"]

# no network is that small: a percentage was meant
_SMALL = 100
_UNITS = {"flops": "multiply-adds", "params": "parameters", "bytes": "bytes", "memory": "bytes"}


@dataclass(frozen=True)
class LatencyLimit:
    """Upper bounds on a candidate's measured latency for one input: in milliseconds, and as ratio to dense."""

    milliseconds: float | None = None
    ratio: float | None = None

    def excess(self, latency_ms: float, latency_ratio: float) -> float:
        """Return by how much a latency is over the bounds, relative to them; <= 0 inside."""
        over = [latency_ms / self.milliseconds - 1] if self.milliseconds else []
        over += [latency_ratio / self.ratio - 1] if self.ratio else []
        return max(over, default=-1.0)


def split_budget(budget: Any) -> tuple[Budget, LatencyLimit]:
    """Return the exact and the measured part of a budget such as ``{"flops": 0.5, "latency_ms": 3}``.

    Raises
    ------
    PruningError
        If it is no mapping, or a key or value is not allowed.
    """
    if not isinstance(budget, Mapping):
        raise PruningError(f"budget: {budget!r}, allowed is a mapping such as flops: 0.5")
    for key, limit in budget.items():
        if key not in (*BOUNDED, "latency_ms", "latency"):
            raise unknown("budget", key, (*BOUNDED, "latency_ms", "latency"))
        if key in COSTS and isinstance(limit, int | float) and 1 < limit <= _SMALL:
            raise PruningError(
                f"budget.{key}: {limit} would be {limit} {_UNITS[key]}, since amounts above 1 are absolute; "
                f"for {limit:g} % of the dense network give {limit / 100:g}"
            )
    latency = {key: budget.get(key) for key in ("latency_ms", "latency")}
    for key, limit in latency.items():
        checked_number(f"budget.{key}", limit, least=0, whole=False, optional=True, above=True)
    exact = {key: value for key, value in budget.items() if key not in latency}
    return Budget.parse(exact), LatencyLimit(latency["latency_ms"], latency["latency"])
