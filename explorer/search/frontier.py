"""The non-dominated points, and the hypervolume they cover."""

from __future__ import annotations

import moocore
import numpy as np
import numpy.typing as npt

__all__ = ["hypervolume", "non_dominated"]


def non_dominated(points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which of the (n, objectives) points no other is better than; all objectives are minimised.

    Of equal points the first is kept. Points with NaN are dominated.
    """
    values = np.asarray(points, dtype=float)
    keep = np.zeros(len(values), dtype=bool)
    finite = np.flatnonzero(np.isfinite(values).all(1)) if len(values) else np.empty(0, int)
    if len(finite):
        keep[finite] = moocore.is_nondominated(values[finite])
    return keep


def hypervolume(points: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Return the volume between the points and `reference`; 0 for no points or none better than it.

    Parameters
    ----------
    points
        (n, objectives), minimised.
    reference
        One value an objective: 1 - 1/classes for an error, 1 for a cost relative to dense.
    """
    values = np.atleast_2d(np.asarray(points, dtype=float))
    bound = np.asarray(reference, dtype=float)
    if values.size == 0:
        return 0.0
    inside = values[np.isfinite(values).all(1) & (values < bound).all(1)]
    return float(moocore.hypervolume(inside, ref=bound)) if len(inside) else 0.0
