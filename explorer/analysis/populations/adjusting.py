"""What several tests at a time need: p-values corrected for their number."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LEVEL", "holm"]

LEVEL = 0.05
"""The level of all tests here: a claim needs a corrected p-value below it."""


def holm(p: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return the p-values of one family of tests, corrected by Holm's step-down method (Holm 1979).

    NaN is a test that could not be made: it stays NaN and does not count.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(p, dtype=float)
    out = np.full(given.shape, np.nan)
    places = np.flatnonzero(~np.isnan(given))
    order = places[np.argsort(given[places], kind="stable")]
    scaled = given[order] * np.arange(len(order), 0, -1)
    # a test is not rejected before one with a smaller p-value
    out[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(order) else scaled
    return out
