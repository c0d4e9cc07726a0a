"""Least squares with an interval that holds where errors scatter unevenly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

__all__ = ["Fit", "left_out"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Fit:
    """A linear model: coefficients, and their covariance that allows every residual a variance of its own (HC3)."""

    coefficients: Floats
    covariance: Floats
    freedom: int

    @classmethod
    def of(cls, design: Floats, target: Floats) -> Fit:
        """Return the least-squares fit of (n,) targets on an (n, k) design."""
        q, r = np.linalg.qr(design)
        inverse = np.linalg.pinv(r)
        coefficients = inverse @ (q.T @ target)
        residuals = (target - design @ coefficients) / np.maximum(1 - (q**2).sum(1), 1e-6)
        bread = inverse @ q.T
        return cls(coefficients, (bread * residuals**2) @ bread.T, len(design) - design.shape[1])

    def positive(self, weights: npt.ArrayLike) -> float:
        """Return the one-sided p-value of the hypothesis that a combination of the coefficients is not above 0."""
        w = np.asarray(weights, dtype=float)
        spread = np.sqrt(w @ self.covariance @ w)
        if not spread > 0:
            return 1.0
        return float(stats.t.sf(w @ self.coefficients / spread, self.freedom))

    def root(self, first: int, second: int) -> tuple[float, float]:
        """Return the 95 % interval of ``-b[first] / b[second]``, Fieller's: all values that a t-test does not refuse.

        It is unbounded where `b[second]` is not clearly different from 0.
        """
        b, v = self.coefficients, self.covariance
        limit = stats.t.ppf(0.975, self.freedom) ** 2
        square = b[second] ** 2 - limit * v[second, second]
        middle = b[first] * b[second] - limit * v[first, second]
        rest = b[first] ** 2 - limit * v[first, first]
        inside = middle**2 - square * rest
        if square <= 0 or inside < 0:
            return -np.inf, np.inf
        return float((-middle - np.sqrt(inside)) / square), float((-middle + np.sqrt(inside)) / square)


def left_out(design: Floats, targets: Floats) -> Floats:
    """Return the squared error of predicting each recipe from all others, summed: (m,) for (n, m) targets."""
    q, _ = np.linalg.qr(design)
    residuals = targets - q @ (q.T @ targets)
    return ((residuals / np.maximum(1 - (q**2).sum(1), 1e-6)[:, None]) ** 2).sum(0)
