"""Expected hypervolume improvement of points of which all coordinates but one are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

__all__ = ["expected_improvement", "lognormal_below", "normal_below"]

Floats = npt.NDArray[np.float64]
Below = Callable[[float], Floats]
"""From a level to how far values are expected to lie below it, E[max(0, level - value)], (n,)."""


def lognormal_below(mean: Floats, deviation: Floats) -> Below:
    """Return the partial expectations of values whose logarithms are normal."""
    # of what spreads over hundreds of powers of ten next to nothing is expected, rather than NaN
    middle = np.exp(np.minimum(mean + deviation**2 / 2, 700))

    def below(level: float) -> Floats:
        if level <= 0:
            return np.zeros(len(mean))
        reached = (np.log(level) - mean) / deviation
        return np.maximum(level * ndtr(reached) - middle * ndtr(reached - deviation), 0)

    return below


def normal_below(mean: Floats, deviation: Floats) -> Below:
    """Return the partial expectations of normal values."""

    def below(level: float) -> Floats:
        reached = (level - mean) / deviation
        density = np.exp(-(reached**2) / 2) / np.sqrt(2 * np.pi)
        return np.maximum(deviation * (reached * ndtr(reached) + density), 0)

    return below


def expected_improvement(below: Below, known: Floats, front: Floats, reference: npt.ArrayLike) -> Floats:
    """Return by how much each point is expected to raise the hypervolume.

    The volume that a point adds is cut into slabs between the levels of the uncertain coordinate that the front has: in
    each of them it adds the volume of its known coordinates that the front's points of lower level do not cover. The
    expectation of a slab's height is a difference of two partial expectations, which makes the sum exact.

    Parameters
    ----------
    below
        Of the uncertain coordinate of n points.
    known
        (n, k), their other coordinates.
    front
        (m, 1 + k), the points so far; the uncertain coordinate first. All is minimised.
    reference
        (1 + k,), the reference point.

    Returns
    -------
    numpy.ndarray
        (n,), 0 or more.
    """
    bound = np.asarray(reference, dtype=float)
    inside = front[(front < bound).all(1)]
    inside = inside[np.argsort(inside[:, 0], kind="stable")]
    levels = [*inside[:, 0], bound[0]]
    total = np.zeros(len(known))
    # below the lowest level no point of the front competes
    lower = np.zeros(len(known))
    for i, level in enumerate(levels):
        upper = below(level)
        if i == 0 or level > levels[i - 1]:
            total += (upper - lower) * _uncovered(known, inside[:i, 1:], bound[1:])
        lower = upper
    return np.maximum(total, 0)


def _uncovered(corners: Floats, points: Floats, bound: Floats) -> Floats:
    """Return the volumes (n,) between the corners (n, k) and the bound that no point (m, k) dominates."""
    if corners.shape[1] == 0:
        return np.full(len(corners), 0.0 if len(points) else 1.0)
    least = corners[:, 0]
    if corners.shape[1] == 1:
        nearest = min(float(points[:, 0].min()), float(bound[0])) if len(points) else float(bound[0])
        return np.maximum(nearest - least, 0)
    order = points[np.argsort(points[:, 0], kind="stable")]
    edges = [-np.inf, *order[:, 0], bound[0]]
    total = np.zeros(len(corners))
    for i in range(len(order) + 1):
        width = np.minimum(edges[i + 1], bound[0]) - np.maximum(edges[i], least)
        if (width > 0).any():
            total += np.maximum(width, 0) * _uncovered(corners[:, 1:], order[:i, 1:], bound[1:])
    return total
