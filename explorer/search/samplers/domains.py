"""Domains: the points that a model-based sampler chooses from, their known features, and moves among them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from explorer.search.metrics import OBJECTIVES
from explorer.search.samplers.past import Past
from spaces import COSTS, PruningError, sample_inside

__all__ = ["Domain", "Recipes"]

Floats = npt.NDArray[np.float64]
Points = npt.NDArray[Any]

_MAX_DRAWS = 1 << 17
# what a choice keeps counts as so much at the least; some keep nothing
_LEAST = 0.01


class Domain(Protocol):
    """What can be proposed. A point is a row of an array (n, axes) of one dtype; equal points have equal bytes."""

    def draw(self, count: int, rng: np.random.Generator) -> Points:
        """Return at most so many points inside the limits, at random."""

    def moved(self, points: Points, rng: np.random.Generator) -> Points:
        """Return each point one step away on an axis taken at random."""

    def settled(self, points: Points) -> Points:
        """Return points put together from parts of others as they are written; the array may be changed."""

    def allowed(self, points: Points) -> npt.NDArray[np.bool_]:
        """Return which of the points (n,) are inside the limits."""

    def seen(self, point: Points) -> bool:
        """Tell whether a point was proposed before."""

    def strong(self, points: Points) -> Floats:
        """Return (n, f), the features that say much of the points' values."""

    def weak(self, points: Points) -> Floats:
        """Return (n, w), the features that say a little each."""

    def costs(self, points: Points) -> Floats:
        """Return (n, k), the objectives that are counted rather than measured."""


class Recipes:
    """The recipes of a pruning space, as a sampler's past knows them.

    Parameters
    ----------
    past
        What a sampler may know.
    """

    def __init__(self, past: Past) -> None:
        self._past = past
        space = past.space
        self._counted = [OBJECTIVES[name].removesuffix("_ratio") for name in past.objectives if name in COSTS]
        # a step by table: for every axis and choice its neighbours, repeated to the length of the longest list
        most = max((len(near) for axis in space.axes for near in axis.neighbours), default=0)
        longest = max((len(axis.choices) for axis in space.axes), default=0)
        self._near = np.zeros((len(space.axes), longest, most), dtype=np.int16)
        for place, axis in enumerate(space.axes):
            for choice, near in enumerate(axis.neighbours):
                self._near[place, choice] = np.resize(near or (choice,), most)
        self._movable = np.flatnonzero([len(axis.choices) > 1 for axis in space.axes])
        self._codes = [_codes(axis) for axis in space.axes]

    def draw(self, count: int, rng: np.random.Generator) -> Points:
        try:
            return sample_inside(
                self._past.space, count, rng, budget=self._past.limits, measure="axes", max_draws=_MAX_DRAWS
            ).rows
        except PruningError:
            return np.empty((0, len(self._past.space.axes)), dtype=np.int16)

    def moved(self, points: Points, rng: np.random.Generator) -> Points:
        rows, every = points.copy(), np.arange(len(points))
        place = self._movable[rng.integers(0, len(self._movable), len(points))]
        near = self._near[place, points[every, place]]
        rows[every, place] = near[every, rng.integers(0, near.shape[1], len(points))]
        return self._past.space.canonical(rows)

    def settled(self, points: Points) -> Points:
        return self._past.space.canonical(points)

    def allowed(self, points: Points) -> npt.NDArray[np.bool_]:
        return self._past.space.inside(points, self._past.limits)

    def seen(self, point: Points) -> bool:
        return point.tobytes() in self._past.seen

    def strong(self, points: Points) -> Floats:
        features, space = self._past.features, self._past.space
        costs = space.costs(points)
        # beside features and FLOPs the parameters made predictions no better
        names = ("flops", "params") if features is None else ("flops",)
        logarithms = np.log(np.stack([costs[name] / space.dense[name] for name in names], 1) + 1e-6)
        return logarithms if features is None else np.concatenate([features(points), logarithms], 1)

    def weak(self, points: Points) -> Floats:
        return np.concatenate([codes[points[:, place]] for place, codes in enumerate(self._codes)], 1)

    def costs(self, points: Points) -> Floats:
        costs, dense = self._past.space.costs(points), self._past.space.dense
        return np.array([costs[name] / dense[name] for name in self._counted]).reshape(-1, len(points)).T


def _codes(axis: Any) -> Floats:
    """Return a row for each choice: minus the logarithm of what it keeps, in a column for each kind of pattern."""
    out = np.zeros((len(axis.choices), len(axis.families)))
    for column, members in enumerate(axis.families.values()):
        for choice in members:
            out[choice, column] = -np.log(max(axis.ratios[choice], _LEAST))
    return out
