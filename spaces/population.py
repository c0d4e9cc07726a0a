"""Populations: distinct recipes of a regime, drawn uniformly and without regard to anything but costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from spaces.budget import Budget
from spaces.cost import COSTS
from spaces.errors import PruningError
from spaces.histogram import Histogram
from spaces.regime import reach, refuse_out_of_reach
from spaces.space import PruningSpace

__all__ = ["sample_population"]

_LISTED = 2_000_000
# draws at a time: from the space, and from a histogram; they do not depend on how many recipes are wanted
_BLOCK, _DRAWN = 1 << 16, 1024
# draws before the histogram is made, all draws where there is none, and draws from a histogram in vain
_TRIED, _MOST, _VAIN = 1 << 18, 20_000_000, 2_000_000

Rows = npt.NDArray[np.int16]


def sample_population(
    space: PruningSpace, n: int, rng: np.random.Generator, *, budget: Budget | None = None, strata: int = 1
) -> Rows:
    """Return n different recipes inside a space's constraints and a budget, as (n, axes) rows.

    Every set of n is as likely: small spaces are listed, of others recipes are drawn and rejected, and where a regime
    is too rare for that they are drawn from a `Histogram` of the cost. Nothing here only approximates a uniform sample.
    A larger n with the same randomness begins with the same recipes.

    Parameters
    ----------
    space
        The recipes.
    n
        How many.
    rng
        The source of randomness.
    budget
        Such as `Budget.regime`; none besides the constraints by default.
    strata
        Into how many equal parts the range of FLOPs is divided, each of which gives as many recipes (the first one
        more where n leaves a remainder): expensive recipes, of which there are often most, are then no majority.

    Raises
    ------
    PruningError
        If fewer than n recipes are inside, or they can't be drawn uniformly.

    Examples
    --------
    >>> from spaces import ChannelUnit, Dim, Layer, Network, Span, Tensor
    >>> unit, wide = ChannelUnit("a", 8, writers=("a",)), Dim((Span("a", 0, 8),))
    >>> net = Network("one", units=(unit,), tensors=(Tensor("w", (wide,)),), layers=(Layer("a", "linear", "w", 1),))
    >>> ratios = [{"granularity": "filter", "ratios": [1, 0.75, 0.5, 0.25]}]
    >>> space = PruningSpace.from_config(net, {"channels": [{"match": "*", "choices": ratios}]})
    >>> rows = sample_population(space, 2, np.random.default_rng(0), budget=Budget.parse({"flops": 0.5}))
    >>> sorted(space.recipe(row).ratios["a"] for row in rows)
    [0.25, 0.5]
    """
    limits = space.constraints & budget if budget else space.constraints
    refuse_out_of_reach(space, limits)
    found: dict[bytes, Rows] = {}
    each: list[list[Rows]] = []
    # a stream of randomness for each part, so that one does not depend on how many recipes another gives
    for place, (part, own) in enumerate(zip(_parts(space, limits, strata), rng.spawn(strata), strict=True)):
        before = len(found)
        if wanted := n // strata + (place < n % strata):
            _Drawing(space, part, own).add(wanted, found)
        each.append(list(found.values())[before:])
    # in turn one of every part
    rows = [part[i] for i in range(-(-n // strata)) for part in each if i < len(part)]
    return np.array(rows, dtype=np.int16).reshape(-1, len(space.axes))


def _parts(space: PruningSpace, limits: Budget, strata: int) -> Iterator[Budget]:
    """Yield the limits with each of the equal parts of their range of FLOPs."""
    if strata == 1:
        yield limits
        return
    low, high = reach(space, limits, "flops")
    edges = np.linspace(low, high, strata + 1) / space.dense["flops"]
    for least, most in pairwise(edges.tolist()):
        yield limits & Budget((("flops", least, most),))


@dataclass
class _Drawing:
    """Different recipes inside limits, added to those that are there."""

    space: PruningSpace
    limits: Budget
    rng: np.random.Generator

    def add(self, wanted: int, found: dict[bytes, Rows]) -> None:
        """Add so many recipes that are not yet found."""
        goal = len(found) + wanted
        if self.space.size <= _LISTED:
            rows = self._listed()
            new = [row for row in rows[self.rng.permutation(len(rows))] if row.tobytes() not in found]
            if len(new) < wanted:
                raise self._few(len(rows), wanted)
            found |= {row.tobytes(): row for row in new[:wanted]}
            return
        draws = 0
        while len(found) < goal and draws < _TRIED:
            self._keep(self.space.sample(_BLOCK, self.rng), found, goal)
            draws += _BLOCK
        if len(found) < goal and (histogram := self._histogram()) is not None:
            self._from(histogram, wanted, found, goal)
            return
        while len(found) < goal:
            if draws >= _MOST:
                raise PruningError(
                    f"population: {goal - len(found)} of {wanted} recipes were not found in {draws:,} draws, "
                    "allowed are a wider regime or a smaller n"
                )
            self._keep(self.space.sample(_BLOCK, self.rng), found, goal)
            draws += _BLOCK

    def _listed(self) -> Rows:
        starts = range(0, self.space.size, _BLOCK)
        blocks = (self.space.rows(start, min(self.space.size, start + _BLOCK)) for start in starts)
        return np.concatenate([rows[self.space.inside(rows, self.limits)] for rows in blocks])

    def _keep(self, rows: Rows, found: dict[bytes, Rows], goal: int) -> int:
        """Add rows that are inside and new, and return how many were added."""
        before = len(found)
        for row in rows[self.space.inside(rows, self.limits)]:
            if len(found) < goal:
                found.setdefault(row.tobytes(), row)
        return len(found) - before

    def _histogram(self) -> Histogram | None:
        bounded = {metric for metric, _, _ in self.limits.bounds}
        metric = next((metric for metric in COSTS if metric in bounded), "flops")
        return Histogram.of(self.space, metric, *reach(self.space, self.limits, metric))

    def _from(self, histogram: Histogram, wanted: int, found: dict[bytes, Rows], goal: int) -> None:
        vain = 0
        # so many draws leave a recipe out once in e^20 times
        patience = min(20 * histogram.count, _VAIN)
        while len(found) < goal and histogram.count >= wanted and vain <= patience:
            vain = 0 if self._keep(histogram.draw(_DRAWN, self.rng), found, goal) else vain + _DRAWN
        if len(found) < goal:
            raise self._few(min(histogram.count, len(found) - goal + wanted), wanted)

    def _few(self, there: int, wanted: int) -> PruningError:
        words = ", ".join(f"{metric} {low:.4g} to {high:.4g}" for metric, low, high in self.limits.bounds)
        return PruningError(
            f"population: {wanted} recipes wanted and {there} found with {words or 'no limits'}, "
            "allowed are a wider regime, a smaller n or fewer strata"
        )
