"""Allocations among a space's own choices, by how much each of them alone changes the network's predictions.

Others spread a level over every width there is; these take what was measured, so their recipes are the space's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np
import numpy.typing as npt

from spaces import PruningSpace

__all__ = ["CHOOSERS", "Changes", "Offer", "knapsack", "threshold"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int16]
Changes = Sequence[Floats]
"""For each axis and choice how much it alone changes the predictions, as `explorer.evaluation.features` measures it."""

# points of a front, rounds of linearisation and of a further one, and choices that are exchanged in twos
_FRONT, _ROUNDS, _AGAIN, _PAIRED = 1 << 13, 10, 2, 200
_EQUAL = 1e-12


@dataclass(frozen=True, eq=False)
class Offer:
    """The choices that an allocation has, and what they change and cost.

    Parameters
    ----------
    space
        The space.
    changes
        Of its choices.
    metric
        One of `spaces.COSTS`.
    family
        The axes of one of the space's families choose in it, those of others keep the most they can; None for all.
    """

    space: PruningSpace
    changes: Changes
    metric: str
    family: str | None = None

    @cached_property
    def choices(self) -> tuple[tuple[int, ...], ...]:
        """For each axis its choices, what keeps most first."""
        axes = self.space.axes
        if self.family is None:
            return tuple(tuple(range(len(axis.choices))) for axis in axes)
        mine = self.space.families[self.family]
        return tuple(axis.families[mine[i]] if i in mine else (0,) for i, axis in enumerate(axes))

    def change(self, rows: Rows) -> Floats:
        """Return the summed change of the (n, axes) rows."""
        return np.sum([table[rows[:, i]] for i, table in enumerate(self.changes)], 0)

    def costs(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the exact costs of the (n, axes) rows."""
        return self.space.costs(rows)[self.metric]

    def moved(self, row: Rows, place: int, choices: Sequence[int] | None = None) -> Rows:
        """Return the rows that have each choice of one axis, or some, in place of the row's, (choices, axes)."""
        choices = self.choices[place] if choices is None else choices
        rows = np.repeat(row[None], len(choices), 0)
        rows[:, place] = choices
        return self.space.canonical(rows)

    @cached_property
    def ends(self) -> Rows:
        """The row of the least cost and the row that keeps most.

        Costs rise with widths and kept blocks, and given those every pattern counts for itself.
        """
        most = np.array([choices[0] for choices in self.choices], dtype=np.int16)
        parts = [axis.part for axis in self.space.axes]
        least = np.array([c[-1 if part == "channels" else 0] for c, part in zip(self.choices, parts, strict=True)])
        least = least.astype(np.int16)
        for part in ("weights", "blocks"):
            for place in (i for i, mine in enumerate(parts) if mine == part):
                least[place] = self.choices[place][int(self.costs(self.moved(least, place)).argmin())]
        return np.stack([self.space.canonical(least[None])[0], most])


def threshold(offer: Offer, target: float) -> tuple[float, Rows]:
    """Return the least threshold whose recipe costs no more than a target, and its row (FastNAS; AIMET).

    Every axis takes the smallest ratio whose change is within one threshold. All thresholds at which the recipe becomes
    another are tried, so it is exact; a part of the budget smaller than one axis's next choice is left.
    """
    levels = np.unique(np.concatenate([t[list(c)] for t, c in zip(offer.changes, offer.choices, strict=True)]))
    rows = np.repeat(np.array([choices[0] for choices in offer.choices], dtype=np.int16)[None], len(levels), 0)
    for place, (axis, choices) in enumerate(zip(offer.space.axes, offer.choices, strict=True)):
        for choice in sorted(choices, key=lambda c: -axis.ratios[c]):
            rows[levels >= offer.changes[place][choice], place] = choice
    rows = offer.space.canonical(rows)
    fitting = np.flatnonzero(offer.costs(rows) <= target)
    if not len(fitting):
        # of bytes a pattern may take more than the dense weight: the smallest ratios are then not the least recipe
        return float(levels[-1]), offer.ends[0]
    return float(levels[fitting[0]]), rows[fitting[0]]


def knapsack(offer: Offer, target: float) -> tuple[float, Rows]:
    """Return the summed change of the recipe of least summed change that costs no more than a target, and its row.

    Costs are products of widths, so they are linearised at a recipe: one choice's cost given the others of that recipe.
    The best recipes for every linear budget follow by merging the axes one by one, and are costed exactly; the best
    within the target is where costs are linearised next, from three beginnings, until nothing gets better. Then choices
    are exchanged one by one and in twos, and in spaces of no more than 200 choices costs are linearised again wherever
    one choice leads, as long as that helps. The exact cost is within the target always. Where costs are sums over
    axes the first linearisation is exact and the recipe is the best of all, as long as no more than 8,192 partial
    recipes are worth keeping; elsewhere it is the best found.
    """
    starts = (offer.ends[1], threshold(offer, target)[1], offer.ends[0])
    best = _least(offer, [_relinearised(offer, start, target, _ROUNDS) for start in starts])
    best = _exchanged(offer, best, target)
    while True:
        # other linearisations: with one choice held, as a block left out, whose layers then cost and change nothing
        near = [(row, place) for place in range(len(offer.choices)) for row in offer.moved(best, place)]
        if len(near) > _PAIRED:
            break
        found = _least(offer, [best, *(_relinearised(offer, row, target, _AGAIN, place) for row, place in near)])
        if offer.change(found[None])[0] >= offer.change(best[None])[0] - _EQUAL:
            break
        best = _exchanged(offer, found, target)
    return float(offer.change(best[None])[0]), best


def _least(offer: Offer, rows: Sequence[Rows]) -> Rows:
    """Return the row of least change."""
    return rows[int(offer.change(np.stack(rows)).argmin())]


def _relinearised(offer: Offer, row: Rows, target: float, rounds: int, held: int | None = None) -> Rows:
    """Return the best row within the target that linearising again and again leads to; the cheapest where none is.

    The choice of the axis that is held, if one is, stays as it is.
    """
    best, least = offer.ends[0], np.inf
    for _ in range(rounds):
        rows = offer.space.canonical(_linear_front(offer, row, held))
        rows = rows[offer.costs(rows) <= target]
        if not len(rows):
            break
        changes = offer.change(rows)
        before, row = row, rows[changes.argmin()]
        if changes.min() < least:
            best, least = row, float(changes.min())
        if (row == before).all():
            break
    return best


def _linear_front(offer: Offer, row: Rows, held: int | None = None) -> Rows:
    """Return the rows that no other beats in both change and cost, where costs are linear around `row`."""
    cost, change = np.zeros(1), np.zeros(1)
    rows = np.empty((1, 0), dtype=np.int16)
    here = float(offer.costs(row[None])[0])
    for place, choices in enumerate(offer.choices):
        choices = (int(row[place]),) if place == held else choices
        more = offer.costs(offer.moved(row, place, choices)).astype(np.float64) - here
        alone = offer.changes[place][list(choices)]
        worth = _front(more, alone)
        cost_of, change_of = (np.add.outer(a, b).ravel() for a, b in ((cost, more[worth]), (change, alone[worth])))
        kept = _front(cost_of, change_of)
        if len(kept) > _FRONT:
            # the best within each of so many budgets
            budgets = np.linspace(cost_of[kept[0]], cost_of[kept[-1]], _FRONT)
            kept = kept[np.unique(np.searchsorted(cost_of[kept], budgets, side="right") - 1)]
        cost, change = cost_of[kept], change_of[kept]
        taken = np.array(choices, dtype=np.int16)[worth][kept % len(worth)]
        rows = np.concatenate([rows[kept // len(worth)], taken[:, None]], 1)
    return rows


def _front(cost: Floats, change: Floats) -> npt.NDArray[np.intp]:
    """Return the places of what nothing of the same cost or less changes less, cheapest first."""
    order = np.lexsort((change, cost))
    before = np.minimum.accumulate(np.append(np.inf, change[order][:-1]))
    return order[change[order] < before]


def _exchanged(offer: Offer, row: Rows, target: float) -> Rows:
    """Return the row that exchanges of one choice or two lead to, as long as they change less within the target."""
    while True:
        moves = [(i, c) for i, choices in enumerate(offer.choices) for c in choices if c != row[i]]
        sets: list[tuple[tuple[int, int], ...]] = [(move,) for move in moves]
        if len(moves) <= _PAIRED:
            sets += [pair for pair in combinations(moves, 2) if pair[0][0] != pair[1][0]]
        rows = np.repeat(row[None], len(sets), 0)
        for moved, exchange in zip(rows, sets, strict=True):
            for place, choice in exchange:
                moved[place] = choice
        rows = offer.space.canonical(rows)
        rows = rows[offer.change(rows) < offer.change(row[None])[0] - _EQUAL]
        rows = rows[offer.costs(rows) <= target]
        if not len(rows):
            return row
        row = rows[offer.change(rows).argmin()]


CHOOSERS: Mapping[str, Callable[[Offer, float], tuple[float, Rows]]] = {"threshold": threshold, "knapsack": knapsack}
"""Allocations by name: from an offer and the most that may be spent to the level and the row."""
