"""Landing: the recipe of an allocation whose cost is a target's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from explorer.pruning.allocation.axes import Counts, FreeSpace
from explorer.pruning.allocation.table import Levels
from spaces import PruningError

__all__ = ["SLACK", "bracket", "check_between", "checked_reach", "land"]

SLACK = 0.005
"""How far from a target, relative to it, a recipe has landed."""

# levels costed at once, and rounds of them: 16 ** 12 levels are told apart
_WAYS, _ROUNDS = 17, 12
# moves that are combined in twos and threes, and combinations tried
_COMBINED, _TRIED = {2: 1000, 3: 120}, 1000
# recipes of a space that is searched whole
_ENUMERABLE = 20_000

Move = tuple[int, int]
"""The place of an axis and the count it is moved to."""


def checked_reach(space: FreeSpace, metric: str, asked: Any, target: float, dense: int, key: str | None = None) -> None:
    """Check that the costs of the least and of the whole recipe enclose a target; `dense` is the dense network's.

    Errors call it `key`, by default the metric.

    Raises
    ------
    PruningError
        If they do not; the message tells both.
    """
    least, most = (int(cost) for cost in space.costs(space.ends, metric))
    check_between(key or metric, asked, target, least, most, dense)


def check_between(key: str, asked: Any, target: float, least: int, most: int, dense: int) -> None:
    """Check that a target lies between two costs.

    Raises
    ------
    PruningError
        If it does not; the message tells both, and their share of `dense`.
    """
    # relative targets are products of floats: half a unit of an integer cost absorbs their rounding
    if not least - 0.5 <= target <= most + 0.5:
        share = f"{least / dense:.4g} to {most / dense:.4g} of dense"
        raise PruningError(f"{key}: {asked!r} is out of reach, allowed is {least:,} to {most:,} ({share})")


def bracket(space: FreeSpace, levels: Levels, metric: str, target: float) -> tuple[float, Counts, Counts]:
    """Return the greatest level found that costs no more than `target`, its row, and the next row that costs more.

    The rows differ by one step an axis at most, where the allocation lets them; they are the same where the whole
    recipe costs no more.
    """
    low, high = 0.0, 1.0
    below, above = space.ends
    if space.costs(above[None], metric)[0] <= target:
        return 1.0, above, above
    for _ in range(_ROUNDS):
        between = np.linspace(low, high, _WAYS)
        rows = space.nearest(levels(between))
        # at level 0 the rows' floors are asked for, at 1 everything
        rows[0], rows[-1] = below, above
        # costs rise with the level
        last = int(np.searchsorted(space.costs(rows, metric), target, side="right")) - 1
        low, high = between[last], between[last + 1]
        below, above = rows[last], rows[last + 1]
        if all(b == a or axis.moved(b, 1) == a for axis, b, a in zip(space.axes, below, above, strict=True)):
            break
    return float(low), below, above


def land(space: FreeSpace, levels: Levels, metric: str, target: float) -> tuple[float, Counts]:
    """Return the level of an allocation and the row, near it, that costs what the target says.

    Between the two rows that enclose the target the best-scored steps are added first, until the cost is nearest.
    Where that is not within `SLACK`, one axis is moved, else two or three together, as long as it leads nearer; a
    space of few recipes is searched whole.
    """
    level, below, above = bracket(space, levels, metric, target)
    row = _between(space, below, above, metric, target)
    row, landed = _nearer(space, row, metric, target)
    if not landed and np.prod([float(axis.states) for axis in space.axes]) <= _ENUMERABLE:
        row = _best_of_all(space, row, metric, target)
    return level, row


def _between(space: FreeSpace, below: Counts, above: Counts, metric: str, target: float) -> Counts:
    """Return the row nearest to the target among those that steps from `below` to `above` make, in score order."""
    steps = []
    for place, (axis, count, last) in enumerate(zip(space.axes, below.tolist(), above.tolist(), strict=True)):
        while count < last:
            count = axis.moved(count, 1)
            steps.append((-axis.score(count), place, count))
    rows = np.repeat(below[None], len(steps) + 1, 0)
    for i, (_, place, count) in enumerate(sorted(steps), start=1):
        rows[i:, place] = count
    return rows[np.abs(space.costs(rows, metric) - target).argmin()]


def _nearer(space: FreeSpace, row: Counts, metric: str, target: float) -> tuple[Counts, bool]:
    """Return the row that moves of one, two or three axes lead to, and whether it has landed."""
    cost = int(space.costs(row[None], metric)[0])
    while (miss := abs(cost - target)) > SLACK * target:
        moves = _moves(space, row)
        changes: list[tuple[Move, ...]] = [(move,) for move in moves]
        singles = space.costs(_changed(row, changes), metric) - cost
        for together in (1, 2, 3):
            if together > 1:
                changes = _likely(moves, singles, target - cost, together)
            if not changes:
                continue
            rows = _changed(row, changes)
            costs = space.costs(rows, metric)
            misses = np.abs(costs - target)
            if misses.min() < miss:
                break
        else:
            return row, False
        # the shortest of the moves that land, as they come sorted
        best = misses.argmin() if misses.min() > SLACK * target else (misses <= SLACK * target).argmax()
        row, cost = rows[best], int(costs[best])
    return row, True


def _likely(moves: Sequence[Move], costs: Counts, missing: float, together: int) -> list[tuple[Move, ...]]:
    """Return the sets of so many moves of different axes whose costs should add up to what is missing most nearly."""
    # the moves of all sizes, where they are too many to combine
    most = _COMBINED[together]
    order = np.argsort(costs, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).astype(int))]
    sums = costs[chosen].astype(np.float64)
    for _ in range(together - 1):
        sums = np.add.outer(sums, costs[chosen])
    misses = np.abs(sums - missing).ravel()
    likely = np.argpartition(misses, min(_TRIED * 6, len(misses) - 1))[: _TRIED * 6]
    places = np.stack(np.unravel_index(likely[np.argsort(misses[likely], kind="stable")], sums.shape), 1)
    rising = places[(np.diff(places, axis=1) > 0).all(1)]
    sets = [tuple(moves[i] for i in chosen[mine]) for mine in rising]
    return [found for found in sets if len({place for place, _ in found}) == together][:_TRIED]


def _moves(space: FreeSpace, row: Counts) -> list[Move]:
    """Return changes of one axis by 1, 2, 4, ... steps: the shortest first, then by the scores of what they change."""
    found: dict[Move, tuple[int, float]] = {}
    for by in (sign * 2**i for i in range(20) for sign in (1, -1)):
        for place, (axis, count) in enumerate(zip(space.axes, row.tolist(), strict=True)):
            if (moved := axis.moved(count, by)) != count:
                worth = axis.score(max(count, moved))
                found.setdefault((place, moved), (abs(by), -worth if by > 0 else worth))
    return sorted(found, key=lambda move: (found[move], move))


def _changed(row: Counts, changes: Sequence[Sequence[Move]]) -> Counts:
    rows = np.repeat(row[None], len(changes), 0)
    for moved, change in zip(rows, changes, strict=True):
        for place, count in change:
            moved[place] = count
    return rows


def _best_of_all(space: FreeSpace, row: Counts, metric: str, target: float) -> Counts:
    """Return of all rows that have landed the one most like `row`; where none has, the nearest to the target."""
    counts = [[*range(axis.least, axis.most + 1), axis.steps] for axis in space.axes]
    rows = np.array(list(product(*counts)))
    misses = np.abs(space.costs(rows, metric) - target)
    if misses.min() > SLACK * target:
        return rows[misses.argmin()]
    landed = rows[misses <= SLACK * target]
    unlike = np.abs(landed - row) / [axis.steps for axis in space.axes]
    return landed[unlike.sum(1).argmin()]
