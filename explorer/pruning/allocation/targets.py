"""An allocation at a target: bisected on exact costs, or on the measured latency."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.pruning.allocation.axes import Counts, FreeSpace, allocated_family
from explorer.pruning.allocation.landing import SLACK, checked_reach, land
from explorer.pruning.allocation.table import Levels, allocation
from explorer.utils.checks import checked_number
from spaces import COSTS, Budget, PruningError, PruningSpace, Recipe, costs_of, unknown

if TYPE_CHECKING:
    from explorer.pruning.criteria import Scores

__all__ = ["TARGETS", "Allocated", "allocate", "check_target", "checked_target"]

log = logging.getLogger("explorer")

TARGETS = (*COSTS, "latency", "latency_ms")
"""What an allocation can be bisected to: exact costs, and measured latency relative to dense or in milliseconds."""

# of latency: of the least recipe, and of those bisected; and levels looked at for them
_MEASUREMENTS, _HALVINGS = 12, 40


Timings = Callable[[Recipe], Mapping[str, float]]
"""From a recipe to its measured latency, that of the dense network beside it, and quartiles."""


@dataclass(frozen=True)
class Allocated:
    """A recipe that an allocation makes for a target.

    Parameters
    ----------
    allocation, family
        One of `ALLOCATIONS`, and which of the space's families it was spread over.
    metric, asked
        One of `TARGETS`, and the value as it was given.
    achieved
        What the recipe has of it: relative to dense where `asked` is, else absolute.
    level
        Of the allocation, before single steps brought the cost nearer.
    recipe
        The canonical recipe.
    quartiles
        Of the measured latency, in the unit of `achieved`: its noise. None for exact costs.
    """

    allocation: str
    family: str
    metric: str
    asked: Any
    achieved: float
    level: float
    recipe: Recipe
    quartiles: tuple[float, float] | None = None

    def __str__(self) -> str:
        noise = "" if self.quartiles is None else " (quartiles {:.4g} to {:.4g})".format(*self.quartiles)
        return f"{self.allocation} allocation of {self.family}: {self.metric} {self.achieved:.4g}{noise}"


def allocate(
    space: PruningSpace,
    scores: Scores,
    name: str,
    target: Mapping[str, Any],
    *,
    family: str | None = None,
    quadratic: bool = False,
    timings: Timings | None = None,
) -> Allocated:
    """Return the recipe by which an allocation reaches a target, within half a percent where that can be.

    Every width and every count that a granularity allows is a choice, not only those of the space; n:m vectors keep
    n/m of their m. Where no recipe is found within half a percent, the nearest is returned and a warning logged.

    Parameters
    ----------
    space, scores
        The space, and the scores of its network.
    name
        One of `ALLOCATIONS`.
    target
        One of `TARGETS` and its value, such as ``{"flops": 0.5}`` (up to 1 relative to dense), ``{"params": "100k"}``
        or ``{"latency_ms": 2}``. Latency is measured for at most twelve recipes, of which the nearest is taken:
        it is as exact as the measurements, whose quartiles are returned.
    family
        One of the space's families, as `allocated_family` takes it; blocks are kept.
    quadratic
        Whether scores go with the square of a weight.
    timings
        Measures a recipe's latency, as `explorer.evaluation.meter.Meter.timings` names it; needed for targets on it.

    Raises
    ------
    PruningError
        If the allocation, target or family is unknown, or the target is out of reach.
    """
    spread = allocation(name)
    metric, asked = checked_target(target)
    chosen = allocated_family(space, family)
    free = FreeSpace.of(space, chosen, scores, quadratic=quadratic)
    levels = spread(free.axes)
    if metric not in COSTS:
        if timings is None:
            raise PruningError(f"target: {metric!r} has to be measured, allowed without timings are {', '.join(COSTS)}")
        level, row, achieved, quartiles = _by_latency(timings, free, levels, metric, float(asked))
        found = Allocated(name, chosen, metric, asked, achieved, level, free.recipe(row), quartiles)
        if abs(achieved - asked) > SLACK * asked:
            log.warning("%s, the nearest to %s that was measured", found, asked)
        return found
    dense = space.dense[metric]
    amount, unit = _amount(metric, asked, dense)
    checked_reach(free, metric, asked, amount, dense)
    level, row = land(free, levels, metric, amount)
    recipe = free.recipe(row)
    achieved = costs_of(space.network, recipe)[metric]
    found = Allocated(name, chosen, metric, asked, achieved / unit, level, recipe)
    if abs(achieved - amount) > SLACK * amount:
        log.warning("%s, the nearest to %s that was found", found, asked)
    return found


def checked_target(target: Any, key: str = "target") -> tuple[str, Any]:
    """Return the one metric of a target and its value.

    Raises
    ------
    PruningError
        If it names none of `TARGETS` or several, or the value is no amount.
    """
    if not isinstance(target, Mapping) or len(target) != 1:
        raise PruningError(f"{key}: {target!r}, allowed is one metric and its value such as flops: 0.5")
    ((metric, asked),) = target.items()
    if metric not in TARGETS:
        raise unknown(key, metric, TARGETS)
    if asked is None or isinstance(asked, list | tuple):
        raise PruningError(f"{key}.{metric}: {asked!r}, allowed is one amount")
    if metric in COSTS:
        Budget.parse({metric: asked}, key)
    else:
        checked_number(f"{key}.{metric}", asked, least=0, whole=False, above=True)
    return metric, asked


def check_target(space: PruningSpace, target: Mapping[str, Any], family: str, key: str) -> None:
    """Check that allocations of a space's family can reach an exact target, called `key`; a latency is not measured.

    Raises
    ------
    PruningError
        If they cannot.
    """
    metric, asked = checked_target(target, key)
    free = FreeSpace.of(space, family)
    if metric in COSTS:
        dense = space.dense[metric]
        checked_reach(free, metric, asked, _amount(metric, asked, dense)[0], dense, f"{key}.{metric}")


def _amount(metric: str, asked: Any, dense: int) -> tuple[float, int]:
    """Return the cost that a target such as 0.5 or ``60M`` stands for, and the unit it was given in: dense or 1."""
    ((_, _, value),) = Budget.parse({metric: asked}, "target").bounds
    return (value * dense, dense) if value <= 1 else (value, 1)


def _by_latency(
    timings: Timings, space: FreeSpace, levels: Levels, metric: str, asked: float
) -> tuple[float, Counts, float, tuple[float, float]]:
    """Return level, row, latency and its quartiles of the recipe measured nearest to what is asked."""

    def measured(row: Counts) -> tuple[float, tuple[float, float], float]:
        timing = timings(space.recipe(row))
        dense = timing["latency_dense_ms"]
        unit = dense if metric == "latency" else 1.0
        quartiles = timing["latency_ms_q1"] / unit, timing["latency_ms_q3"] / unit
        return timing["latency_ms"] / unit, quartiles, dense / unit

    low, high = 0.0, 1.0
    below, above = space.ends
    least, quartiles, dense = measured(below)
    if not least <= asked <= dense:
        raise PruningError(f"{metric}: {asked:g} is out of reach, allowed is {least:.4g} to {dense:.4g}, as measured")
    best = low, below, least, quartiles
    measurements = 1
    # levels between which no row is left end it too
    for _ in range(_HALVINGS):
        if measurements == _MEASUREMENTS or abs(best[2] - asked) <= SLACK * asked:
            break
        level = (low + high) / 2
        row = space.nearest(levels(np.array([level])))[0]
        if (row == below).all() or (row == above).all():
            low, high = (level, high) if (row == below).all() else (low, level)
            continue
        value, quartiles, _ = measured(row)
        measurements += 1
        if abs(value - asked) < abs(best[2] - asked):
            best = level, row, value, quartiles
        if value <= asked:
            low, below = level, row
        else:
            high, above = level, row
    return best
