"""Stairs: what a set of points reaches within a cost, which is how every frontier is drawn."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd

from explorer.search.frontier import non_dominated

__all__ = ["median_stair", "reached", "stair"]


def stair(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of which no other has both less x and less y, by x: the corners of a stair.

    A stair tells the least y within each x from its first corner on; it ends at its last, since nothing was measured
    beyond.

    Parameters
    ----------
    points
        Rows with ``x`` and ``y``; those with NaN are left out.
    """
    best = points[non_dominated(points[["x", "y"]].to_numpy(dtype=float))]
    return best.sort_values("x").reset_index(drop=True)


def reached(points: pd.DataFrame, x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the least y of the points within each `x`, NaN before the first of them."""
    corners = stair(points)
    places = np.searchsorted(corners["x"].to_numpy(dtype=float), np.asarray(x, dtype=float), side="right")
    return np.concatenate([[np.nan], corners["y"].to_numpy(dtype=float)])[places]


def median_stair(sets: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return the median of several sets' stairs as rows with ``x`` and ``y``, where all of the sets reach anything.

    Parameters
    ----------
    sets
        Points with ``x`` and ``y``, such as those of one seed each.
    """
    each = [points.dropna(subset=["x", "y"]) for points in sets]
    x = np.unique(np.concatenate([points["x"].to_numpy(dtype=float) for points in each]))
    y = np.median([reached(points, x) for points in each], axis=0)
    found = pd.DataFrame({"x": x, "y": y}).dropna()
    # corners alone
    return found[found["y"] < found["y"].shift(fill_value=np.inf)].reset_index(drop=True)
