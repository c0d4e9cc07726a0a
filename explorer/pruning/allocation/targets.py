"""An allocation at a target: bisected on exact costs, or on the measured latency."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from explorer.pruning.allocation.axes import Counts, FreeSpace, allocated_family
from explorer.pruning.allocation.choices import CHOOSERS, Changes, Offer
from explorer.pruning.allocation.landing import SLACK, check_between, checked_reach, land
from explorer.pruning.allocation.table import ALLOCATIONS, Levels, check_allocation
from explorer.utils.checks import checked_number
from spaces import COSTS, Budget, PruningError, PruningSpace, Recipe, check_cost, costs_of, unknown

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
        One of `ALLOCATIONS` or `CHOOSERS`, and which of the space's families it was spread over, or ``all``.
    metric, asked
        One of `TARGETS`, and the value as it was given.
    achieved
        What the recipe has of it: relative to dense where `asked` is, else absolute.
    level
        Of the allocation, before single steps brought the cost nearer; of `CHOOSERS` the threshold on the change, or
        the summed change.
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
    changes: Callable[[], Changes] | None = None,
) -> Allocated:
    """Return the recipe by which an allocation reaches a target, within half a percent where that can be.

    Every width and every count that a granularity allows is a choice, not only those of the space, whose divisor and
    ties do not hold either; n:m vectors keep n/m of their m. Where no recipe is found within half a percent, the
    nearest is returned and a warning logged. Those of `CHOOSERS` take choices of the space, and cost no more than the
    target.

    Parameters
    ----------
    space, scores
        The space, and the scores of its network.
    name
        One of `ALLOCATIONS` or `CHOOSERS`.
    target
        One of `TARGETS` (of `spaces.COSTS` for `CHOOSERS`) and its value, such
        as ``{"flops": 0.5}`` (up to 1 relative to dense), ``{"params": "100k"}``
        or ``{"latency_ms": 2}``. Latency is measured for at most twelve recipes, of which the nearest is taken:
        it is as exact as the measurements, whose quartiles are returned.
    family
        One of the space's families, as `allocated_family` takes it; blocks are kept. None is all of them, blocks too,
        for ``knapsack``.
    quadratic
        Whether scores go with the square of a weight.
    timings
        Measures a recipe's latency, as `explorer.evaluation.meter.Meter.timings` names it; needed for targets on it.
    changes
        Measures how much each choice alone changes the predictions; needed for `CHOOSERS`.

    Raises
    ------
    PruningError
        If the allocation, target or family is unknown, or the target is out of reach.
    """
    check_allocation(name)
    metric, asked = checked_target(target)
    if name in CHOOSERS:
        if changes is None:
            raise PruningError(f"allocation: {name!r} needs changes, allowed without are {', '.join(ALLOCATIONS)}")
        return _chosen(space, name, metric, asked, family, changes)
    chosen = allocated_family(space, family)
    free = FreeSpace.of(space, chosen, scores, quadratic=quadratic)
    levels = ALLOCATIONS[name](free.axes)
    if metric in COSTS:
        check_cost(metric, space.dense, "target")
    else:
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


def _chosen(
    space: PruningSpace, name: str, metric: str, asked: Any, family: str | None, changes: Callable[[], Changes]
) -> Allocated:
    """Return the recipe of one of `CHOOSERS`; nothing is measured for what is out of reach."""
    offer, amount, unit = _offer(space, name, metric, asked, family)
    offer = replace(offer, changes=changes())
    level, row = CHOOSERS[name](offer, amount)
    achieved = int(offer.costs(row[None])[0])
    recipe = space.recipe(row).canonical(space.network)
    found = Allocated(name, offer.family or "all", metric, asked, achieved / unit, level, recipe)
    if achieved < (1 - SLACK) * amount:
        log.info("%s, the most within %s", found, asked)
    return found


def _offer(
    space: PruningSpace, name: str, metric: str, asked: Any, family: str | None, key: str | None = None
) -> tuple[Offer, float, int]:
    """Return the choices that one of `CHOOSERS` has, the cost that it aims at, and the unit of that."""
    called = key or metric
    if metric not in COSTS:
        raise PruningError(f"{called}: {name!r} aims at a cost that is counted, allowed are {', '.join(COSTS)}")
    several = len(space.families) > 1 or "blocks" in space.families
    chosen = None if name == "knapsack" and family is None and several else allocated_family(space, family)
    offer = Offer(space, (), metric, chosen)
    amount, unit = _amount(metric, asked, space.dense[metric])
    least, most = (int(cost) for cost in offer.costs(offer.ends))
    check_between(called, asked, amount, least, most, space.dense[metric])
    return offer, amount, unit


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


def check_target(space: PruningSpace, name: str, target: Mapping[str, Any], family: str | None, key: str) -> None:
    """Check that an allocation of a space's family can reach an exact target, called `key`; a latency is not measured.

    Raises
    ------
    PruningError
        If it cannot.
    """
    metric, asked = checked_target(target, key)
    if metric in COSTS:
        check_cost(metric, space.dense, key)
    if name in CHOOSERS:
        _offer(space, name, metric, asked, family, f"{key}.{metric}")
        return
    free = FreeSpace.of(space, allocated_family(space, family, "baseline_family"))
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
