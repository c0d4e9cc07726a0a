"""Histogram: how many recipes of a space have which cost, without listing them; and recipes of a cost, uniformly.

A cost is a sum of tables over a few axes each, so axes are taken in one after the other, and for every combination of
choices that later tables still ask for it is counted how many recipes so far have which cost. A regime that one recipe
in a billion lies in is drawn from as easily as any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, gcd, prod

import numpy as np
import numpy.typing as npt

from spaces.space import PruningSpace

__all__ = ["Histogram"]

# of the counts, over all steps: 320 MB of float64; fewer bins than this tell too little
_CELLS, _MOST, _LEAST = 40_000_000, 1 << 14, 256
# combinations of choices that are told apart at a time
_STATES = 20_000

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Step:
    """One axis taken in.

    Attributes
    ----------
    axis
        Its place.
    before, after
        The axes whose choices are told apart before it, and after it.
    bins
        What it adds to the cost, in bins: over the choices of `before` and its own; -1 where no recipe chooses so.
    """

    axis: int
    before: tuple[int, ...]
    after: tuple[int, ...]
    bins: Ints


@dataclass(frozen=True, eq=False)
class Histogram:
    """Recipes of a space by one cost, in bins; of those whose cost is in a range.

    Costs are rounded to bins table by table. The range is widened by what that can amount to, so that every recipe of
    the range is among those counted and drawn; who draws checks the exact cost.

    Attributes
    ----------
    count
        Recipes of the widened range; exact below 2**53, above to 15 digits.
    exact
        Whether nothing was rounded: then the range is as it was asked for.
    """

    count: int
    exact: bool
    _sizes: tuple[int, ...]
    _steps: tuple[_Step, ...]
    _counts: tuple[Floats, ...]
    _last: Ints
    _weights: Floats

    @classmethod
    def of(cls, space: PruningSpace, metric: str, low: float, high: float) -> Histogram | None:
        """Return the histogram of the recipes with `low` <= cost <= `high`.

        None where the axes are too entangled to take in one after the other, as in densely connected networks.

        Parameters
        ----------
        space
            The recipes; its constraints are not asked.
        metric
            A key of `COSTS`.
        low, high
            Absolute amounts.
        """
        parts = space.costs.parts(metric)
        if parts is None:
            return None
        parts = dict(parts)
        constant = int(parts.pop((), np.array(0)))
        for block in space.tree.blocks:
            for inner in block.inner.tolist():
                # not a cost, but these two are to be looked at together
                pair = tuple(sorted((int(block.axis or 0), inner)))
                parts.setdefault(pair, np.zeros([space.shape[axis] for axis in pair], dtype=np.int64))
        order = _order(space.shape, parts)
        if order is None:
            return None
        # counted from the nearer end, so that bins are as fine as they can be
        least = constant + sum(int(table.min()) for table in parts.values())
        most = constant + sum(int(table.max()) for table in parts.values())
        sign, origin = (1, least) if high - least <= most - low else (-1, most)
        shifted = {scope: sign * table - int((sign * table).min()) for scope, table in parts.items()}
        begin, end = sorted((sign * (low - origin), sign * (high - origin)))
        unit = 0
        for table in shifted.values():
            unit = gcd(unit, int(np.gcd.reduce(table, axis=None)))
        unit = max(1, unit)
        states = sum(prod(space.shape[axis] for axis in before) for _, before, _ in order)
        bins = min(_MOST, _CELLS // max(1, states))
        if bins < _LEAST:
            return None
        width = unit * max(1, -(-max(1, int(end) // unit + 1) // bins))
        rounded = {scope: (2 * table + width) // (2 * width) for scope, table in shifted.items()}
        error = sum(int(np.abs(rounded[scope] * width - table).max()) for scope, table in shifted.items())
        first, last = max(0, ceil((begin - error) / width)), floor((end + error) / width)
        if last < first:
            return cls(0, error == 0, space.shape, (), (), np.empty(0, dtype=np.int64), np.empty(0))
        steps = _steps(space, order, rounded)
        counts, scale = _counted(space.shape, steps, last + 1)
        weights = counts[-1][first : last + 1]
        total = round(Fraction(float(weights.sum())) * 2**scale)
        return cls(total, error == 0, space.shape, steps, counts, np.arange(first, last + 1), weights)

    def draw(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int16]:
        """Return (n, axes) rows, uniform over the recipes of the widened range, with replacement.

        None are drawn where there are none.
        """
        if not self.count:
            return np.empty((0, len(self._sizes)), dtype=np.int16)
        rows = np.zeros((n, len(self._sizes)), dtype=np.int64)
        # where in the last histogram, and from there back, axis by axis
        cost = rng.choice(self._last, n, p=self._weights / self._weights.sum())
        for step, counts in zip(reversed(self._steps), reversed(self._counts[:-1]), strict=True):
            gone = tuple(axis for axis in (*step.before, step.axis) if axis not in step.after)
            shape = [self._sizes[axis] for axis in gone]
            options = np.stack(np.unravel_index(np.arange(prod(shape)), shape), 1) if gone else np.zeros((1, 0), int)
            chosen = {axis: rows[:, axis, None] for axis in step.after}
            chosen |= {axis: options[None, :, i] for i, axis in enumerate(gone)}
            added = step.bins[tuple(chosen[axis] for axis in (*step.before, step.axis))]
            left = cost[:, None] - added
            inside = (added >= 0) & (left >= 0)
            weights = np.where(
                inside, counts[(*(chosen[axis] for axis in step.before), np.where(inside, left, 0))], 0.0
            )
            weights = np.broadcast_to(weights, (n, len(options)))
            total = np.cumsum(weights, axis=1)
            # a point below the total, so that no option of weight 0 is taken
            point = rng.random(n) * total[:, -1]
            which = np.minimum((total <= point[:, None]).sum(1), len(options) - 1)
            rows[:, gone] = options[which]
            cost = np.broadcast_to(left, (n, len(options)))[np.arange(n), which]
        return rows.astype(np.int16)


def _order(
    sizes: Sequence[int], parts: Mapping[tuple[int, ...], Ints]
) -> list[tuple[int, tuple[int, ...], tuple[int, ...]]] | None:
    """Return (axis, before, after) for axes in an order in which few are told apart at a time; None if there is none.

    The next axis is always the one after which the fewest combinations are told apart.
    """
    near: dict[int, set[int]] = {axis: set() for axis in range(len(sizes))}
    for scope in parts:
        for axis in scope:
            near[axis] |= set(scope)
    taken: set[int] = set()
    open_: tuple[int, ...] = ()
    order = []
    for _ in sizes:
        best: tuple[int, int, tuple[int, ...]] | None = None
        for axis in near.keys() - taken:
            seen = taken | {axis}
            after = tuple(one for one in (*open_, axis) if not near[one] <= seen)
            found = prod(sizes[one] for one in after), axis, after
            best = found if best is None else min(best, found)
        assert best is not None
        _, axis, after = best
        if prod(sizes[one] for one in (*open_, axis)) > _STATES:
            return None
        order.append((axis, open_, after))
        taken.add(axis)
        open_ = after
    return order


def _steps(
    space: PruningSpace,
    order: Sequence[tuple[int, tuple[int, ...], tuple[int, ...]]],
    rounded: Mapping[tuple[int, ...], Ints],
) -> tuple[_Step, ...]:
    """Return the steps of an order, each with the tables that are complete with its axis."""
    left, steps, taken = dict(rounded), [], set[int]()
    dropped = [(int(block.axis or 0), block.choices, set(block.inner.tolist())) for block in space.tree.blocks]
    for axis, before, after in order:
        taken.add(axis)
        axes = (*before, axis)
        bins = np.zeros([space.shape[one] for one in axes], dtype=np.int64)
        for scope in [scope for scope in left if set(scope) <= taken]:
            bins = bins + _spread(left.pop(scope), scope, axes)
        for block, choices, inner in dropped:
            for one in axes:
                if block in axes and one in inner and axis in (block, one):
                    # inside a dropped block every axis stands at 0
                    away = np.outer(np.array(choices) == 0, np.arange(space.shape[one]) > 0)
                    pair = (block, one) if block < one else (one, block)
                    away = away if block < one else away.T
                    bins = np.where(_spread(away.astype(np.int64), pair, axes) > 0, -1, bins)
        steps.append(_Step(axis, before, after, bins))
    return tuple(steps)


def _spread(table: Ints, scope: tuple[int, ...], axes: tuple[int, ...]) -> Ints:
    """Return a table over `scope` with a dimension for each of `axes`, of length 1 where it has none."""
    places = [axes.index(axis) for axis in scope]
    moved = table.transpose(np.argsort(places))
    shape = [1] * len(axes)
    for place, length in zip(sorted(places), moved.shape, strict=True):
        shape[place] = length
    return moved.reshape(shape)


def _counted(sizes: Sequence[int], steps: Sequence[_Step], bins: int) -> tuple[tuple[Floats, ...], int]:
    """Return the counts before every step and after the last, each (choices of `before`..., bins).

    And the power of two that the last are to be multiplied by: large spaces have more recipes than a float holds.
    """
    counts, scale = [np.zeros(bins)], 0
    counts[0][0] = 1
    for step in steps:
        axes = (*step.before, step.axis)
        now = np.zeros([*(sizes[axis] for axis in step.after), bins])
        for choices in np.ndindex(*step.bins.shape):
            shift = step.bins[choices]
            if 0 <= shift < bins:
                chosen = dict(zip(axes, choices, strict=True))
                now[tuple(chosen[axis] for axis in step.after)][shift:] += counts[-1][choices[:-1]][: bins - shift]
        if now.max() > 2.0**500:
            now, scale = now * 2.0**-500, scale + 500
        counts.append(now)
    return tuple(counts), scale
