"""The parameters of any Optuna study as a domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution

from explorer.search.optuna_private import contains

__all__ = ["Distributions"]

Floats = npt.NDArray[np.float64]

# a point outside the limits is drawn anew so many times
_DRAWS = 20
# of a step on a continuous axis, or on one of many values, as a share of its length
_STRIDES = (0.01, 0.05, 0.2)


class Distributions:
    """Points whose coordinates are the positions of parameters in their distributions.

    A coordinate is the number of a choice, or of a value on the distribution's grid; where there is no grid, it is
    the place between the bounds, 0 to 1. Where a distribution is logarithmic, places are.

    Parameters
    ----------
    space
        The distributions, by parameter.
    cost, constraints
        As `FrontierSampler` takes them.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        cost: Callable[[dict[str, Any]], float | Sequence[float]],
        constraints: Callable[[dict[str, Any]], Sequence[float]] | None,
    ) -> None:
        self.names = tuple(space)
        self._axes = list(space.values())
        self._sizes = np.array([_size(axis) for axis in self._axes])
        self._cost, self._constraints = cost, constraints
        self._seen: set[bytes] = set()
        self._costs: dict[bytes, Floats] = {}

    def has(self, params: Mapping[str, Any]) -> bool:
        """Tell whether parameters are a point here."""
        return all(
            name in params and contains(axis, axis.to_internal_repr(params[name]))
            for name, axis in zip(self.names, self._axes, strict=True)
        )

    def point(self, params: Mapping[str, Any]) -> Floats:
        """Return the point (axes,) of parameters."""
        return np.array([_place(axis, params[name]) for name, axis in zip(self.names, self._axes, strict=True)])

    def params(self, point: Floats) -> dict[str, Any]:
        """Return the parameters of a point."""
        return {name: _value(axis, place) for name, axis, place in zip(self.names, self._axes, point, strict=True)}

    def remember(self, points: Floats) -> None:
        """Propose none of these points."""
        self._seen |= {point.tobytes() for point in points}

    def draw(self, count: int, rng: np.random.Generator) -> Floats:
        found = np.empty((0, len(self.names)))
        for _ in range(_DRAWS):
            places = rng.random((count, len(self.names)))
            points = np.where(self._sizes > 0, np.floor(places * np.maximum(self._sizes, 1)), places)
            found = np.concatenate([found, points[self.allowed(points)]])
            if len(found) >= count:
                break
        return found[:count]

    def moved(self, points: Floats, rng: np.random.Generator) -> Floats:
        out, every = points.copy(), np.arange(len(points))
        axis = rng.integers(0, len(self.names), len(points))
        size, place = self._sizes[axis], points[every, axis]
        strides = rng.normal(size=len(points)) * rng.choice(_STRIDES, len(points))
        # on a grid one value further at least
        steps = np.sign(strides) * np.maximum(1, np.abs(strides * size).round())
        nominal = np.array([isinstance(one, CategoricalDistribution) for one in self._axes])[axis]
        steps = np.where(nominal, rng.integers(1, np.maximum(2, size)), steps)
        further = np.where(nominal, (place + steps) % np.maximum(size, 1), np.clip(place + steps, 0, size - 1))
        out[every, axis] = np.where(size > 0, further, np.clip(place + strides, 0, 1))
        return out

    def settled(self, points: Floats) -> Floats:
        return points

    def allowed(self, points: Floats) -> npt.NDArray[np.bool_]:
        if self._constraints is None:
            return np.ones(len(points), dtype=bool)
        return np.array([all(one <= 0 for one in self._constraints(self.params(p))) for p in points], dtype=bool)

    def seen(self, point: Floats) -> bool:
        return point.tobytes() in self._seen

    def strong(self, points: Floats) -> Floats:
        costs = self.costs(points)
        return np.sign(costs) * np.log1p(np.abs(costs))

    def weak(self, points: Floats) -> Floats:
        columns = []
        for place, axis in zip(points.T, self._axes, strict=True):
            if isinstance(axis, CategoricalDistribution):
                columns += list((place[:, None] == np.arange(len(axis.choices))).T / np.sqrt(2))
            else:
                size = _size(axis)
                columns.append(place / max(1, size - 1) if size else place)
        return np.stack(columns, 1)

    def costs(self, points: Floats) -> Floats:
        """Return (n, k), the costs, each point's computed once."""
        found = []
        for point in points:
            code = point.tobytes()
            if code not in self._costs:
                self._costs[code] = np.atleast_1d(np.asarray(self._cost(self.params(point)), dtype=float))
            found.append(self._costs[code])
        return np.array(found)


def _size(axis: Any) -> int:
    """Return how many values a distribution has, 0 for a continuous one."""
    if isinstance(axis, CategoricalDistribution):
        return len(axis.choices)
    return 0 if axis.step is None else round((axis.high - axis.low) / axis.step) + 1


def _place(axis: Any, value: Any) -> float:
    if isinstance(axis, CategoricalDistribution):
        return axis.to_internal_repr(value)
    if axis.step is not None:
        return float(round((value - axis.low) / axis.step))
    low, high, at = np.log([axis.low, axis.high, value]) if axis.log else (axis.low, axis.high, value)
    return float((at - low) / (high - low))


def _value(axis: Any, place: float) -> Any:
    if isinstance(axis, CategoricalDistribution):
        return axis.to_external_repr(place)
    if axis.step is not None:
        return axis.to_external_repr(min(axis.low + int(place) * axis.step, axis.high))
    if axis.log:
        return float(np.clip(np.exp(np.log(axis.low) + place * np.log(axis.high / axis.low)), axis.low, axis.high))
    return float(np.clip(axis.low + place * (axis.high - axis.low), axis.low, axis.high))
