"""The FLOPs-to-parameter ratio at which a population's error is least, and whether there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import optimize, stats

from explorer.analysis.populations.population import Population
from explorer.analysis.populations.regression import Fit, left_out
from explorer.analysis.populations.winners import best_draws, winners_of
from spaces import PruningError

__all__ = ["Optimum", "common_optimum_p", "fit_optimum", "optimum_table"]

_PERMUTATIONS = 1999
_CENTRE = (0.05, 0.95)
_NEAR = 0.25

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Optimum:
    """Error as a quadratic in the logarithm of the ratio, beside a flat model; both know a recipe's FLOPs.

    Attributes
    ----------
    value, low, high
        Where the quadratic is least, and its 95 % interval (Fieller's, heteroscedasticity-consistent); the interval is
        0 to infinity where the data do not tell, and `value` the better end where the quadratic has no minimum inside.
    least, most
        The 5 % and 95 % quantiles of the ratio in the population.
    gain
        The share by which the quadratic's squared error is below the flat model's, for recipes left out of the fit.
    gain_p
        How likely so large a gain is where the ratio tells nothing: by permutation.
    falls_p, rises_p
        One-sided p-values that error falls before `value` and rises behind it, each by a line through its own side.
    explained
        Upper end of the 95 % interval of the share of the variance that the quadratic explains.
    curvature
        Of the quadratic; a minimum has one above 0.
    winners, near
        How many winners there are, and how many of them are in the quarter of the population nearest to `value`.
    near_p
        How likely so many are where the ratio tells nothing, `value` being fitted anew: by permutation.
    fit
        The quadratic: constant, slope and curvature in the logarithm of the ratio around `centre`, and FLOPs.
    """

    n: int
    value: float
    low: float
    high: float
    least: float
    most: float
    gain: float
    gain_p: float
    falls_p: float
    rises_p: float
    explained: float
    curvature: float
    winners: int
    near: int
    near_p: float
    centre: float
    fit: Fit

    @property
    def inside(self) -> bool:
        """Whether the interval lies between `least` and `most`, where there are recipes on both sides."""
        return self.least < self.low and self.high < self.most

    @property
    def p(self) -> float:
        """The p-value of "there is an optimum": all of gain, fall and rise have to be there, so their largest."""
        return max(self.gain_p, self.falls_p, self.rises_p)


def fit_optimum(population: Population, rng: np.random.Generator) -> Optimum:
    """Return where a population's error is least over its FLOPs-to-parameter ratio.

    Parameters
    ----------
    population
        Eight recipes at least, of different ratios.
    rng
        Of the permutations.

    Raises
    ------
    PruningError
        If there are fewer, or all have one ratio.
    """
    ratio = population.table[population.ratio].to_numpy(dtype=float)
    if len(population) < 8 or len(np.unique(ratio)) < 3:
        raise PruningError(
            f"{population.name}: {len(population)} recipes of {len(np.unique(ratio))} different {population.ratio}, "
            "allowed are 8 recipes of 3 at least"
        )
    errors, x = population.errors, np.log(ratio)
    centre = float(x.mean())
    x = x - centre
    flops = _standard(np.log(population.flops))
    flat = np.stack([np.ones_like(x), *([flops] if flops.any() else [])], axis=1)
    design = np.concatenate([flat[:, :1], x[:, None], x[:, None] ** 2, flat[:, 1:]], axis=1)
    fit = Fit.of(design, errors)
    low, high = fit.root(1, 2)
    least, most = np.quantile(x, _CENTRE)
    # Freedman and Lane (1983): what FLOPs explain stays, the rest is permuted
    base = flat @ np.linalg.lstsq(flat, errors, rcond=None)[0]
    residuals = errors - base
    drawn = np.concatenate([errors[:, None], base[:, None] + _permuted(residuals, rng)], axis=1)
    gains = 1 - left_out(design, drawn) / np.maximum(left_out(flat, drawn), 1e-300)
    values = _least(np.linalg.pinv(design) @ drawn, least, most)
    near = _near_winners(x, drawn, values)
    value = float(values[0])
    falls, rises = _sides(x, errors, flat, value, fit)
    return Optimum(
        n=len(x),
        value=float(np.exp(value + centre)),
        low=float(np.exp(low / 2 + centre)) if fit.coefficients[2] > 0 else 0.0,
        high=float(np.exp(high / 2 + centre)) if fit.coefficients[2] > 0 else np.inf,
        least=float(np.exp(least + centre)),
        most=float(np.exp(most + centre)),
        gain=float(gains[0]),
        gain_p=float((gains >= gains[0] - 1e-12).mean()),
        falls_p=falls,
        rises_p=rises,
        explained=_explained(design, flat, errors),
        curvature=float(fit.coefficients[2]),
        winners=len(winners_of(errors)),
        near=int(near[0]),
        near_p=float((near >= near[0]).mean()),
        centre=centre,
        fit=fit,
    )


def optimum_table(
    populations: Sequence[Population], optima: Sequence[Optimum], rng: np.random.Generator
) -> pd.DataFrame:
    """Return one row a population: its optimal ratio, and between which ratios the best of a quarter of it lies.

    Columns: ``population``, its circumstances, ``n``, ``statistic`` (``rho`` or ``mcb``), ``optimum`` with its 95 %
    interval (``_low``, ``_high``), ``winners`` (median of the empirical bootstrap) with its interval, ``least`` and
    ``most`` (what the population holds), ``gain`` and ``p``, see `Optimum`.
    """
    rows = []
    for one, found in zip(populations, optima, strict=True):
        ratio = one.table[one.ratio].to_numpy(dtype=float)
        low, median, high = np.quantile(ratio[best_draws(one.errors, rng)], [0.025, 0.5, 0.975])
        rows.append(
            {
                "population": one.name,
                **one.circumstances,
                "n": found.n,
                "statistic": one.ratio,
                "optimum": found.value,
                "optimum_low": found.low,
                "optimum_high": found.high,
                "winners": median,
                "winners_low": low,
                "winners_high": high,
                "least": found.least,
                "most": found.most,
                "gain": found.gain,
                "p": found.p,
            }
        )
    return pd.DataFrame(rows)


def common_optimum_p(optima: Sequence[Optimum]) -> float:
    """Return the p-value of the hypothesis that several populations have one optimal ratio.

    For a ratio the squared t-values of "the quadratic is flat here" are summed over the populations; the least sum is
    chi-squared with one degree of freedom fewer than there are populations.
    """
    least, most = min(one.least for one in optima), max(one.most for one in optima)
    grid = np.linspace(np.log(least), np.log(most), 2001)
    total = np.zeros_like(grid)
    for one in optima:
        b, v = one.fit.coefficients, one.fit.covariance
        at = 2 * (grid - one.centre)
        total += (b[1] + at * b[2]) ** 2 / (v[1, 1] + 2 * at * v[1, 2] + at**2 * v[2, 2])
    return float(stats.chi2.sf(total.min(), len(optima) - 1))


def _standard(values: Floats) -> Floats:
    spread = values.std()
    return (values - values.mean()) / spread if spread > 1e-12 else np.zeros_like(values)


def _permuted(values: Floats, rng: np.random.Generator) -> Floats:
    """Return (n, permutations), `values` in random orders."""
    return rng.permuted(np.tile(values, (_PERMUTATIONS, 1)), axis=1).T


def _least(coefficients: Floats, low: float, high: float) -> Floats:
    """Return where each of (k, m) quadratics is least between `low` and `high`."""
    slope, curvature = coefficients[1], coefficients[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        vertex = np.where(curvature > 0, -slope / (2 * curvature), np.nan)
    ends = np.where(slope * low + curvature * low**2 <= slope * high + curvature * high**2, low, high)
    return np.where(np.isnan(vertex), ends, np.clip(vertex, low, high))


def _near_winners(x: Floats, errors: Floats, values: Floats) -> npt.NDArray[np.intp]:
    """Return for (n, m) errors how many winners are among the quarter of the recipes nearest to (m,) values."""
    count = len(winners_of(errors[:, 0]))
    winners = np.argpartition(errors, count - 1, axis=0)[:count]
    distance = np.abs(x[:, None] - values)
    reach = np.quantile(distance, _NEAR, axis=0)
    return (np.take_along_axis(distance, winners, axis=0) <= reach).sum(0)


def _sides(x: Floats, errors: Floats, flat: Floats, value: float, fit: Fit) -> tuple[float, float]:
    """Return p-values that error falls before `value` and rises behind it: two lines (Simonsohn 2018)."""
    behind = x > value
    if min(behind.sum(), (~behind).sum()) < 4:
        return 1.0, 1.0
    away = x - value
    design = np.concatenate([flat, np.stack([behind, away * ~behind, away * behind], axis=1)], axis=1)
    lines, k = Fit.of(design, errors), flat.shape[1]
    weights = np.eye(k + 3)
    return lines.positive(-weights[k + 1]), lines.positive(weights[k + 2])


def _explained(design: Floats, flat: Floats, errors: Floats) -> float:
    """Return the upper end of the 95 % interval of what the quadratic explains of what FLOPs leave."""
    residuals = [float(((errors - m @ np.linalg.lstsq(m, errors, rcond=None)[0]) ** 2).sum()) for m in (flat, design)]
    if residuals[0] <= 0:
        return 0.0
    freedom = len(errors) - design.shape[1]
    f = max((residuals[0] - residuals[1]) / 2, 0.0) / max(residuals[1] / freedom, 1e-300)
    # the largest noncentrality under which so small an F is seen with 2.5 %
    if stats.f.cdf(f, 2, freedom) <= 0.025:
        return 0.0

    def too_likely(far: float) -> float:
        # NaN where it is too small for a float
        return float(np.nan_to_num(stats.ncf.cdf(f, 2, freedom, far))) - 0.025

    most = optimize.brentq(too_likely, 1e-9, 10 * (2 * f + 50), rtol=1e-4)
    return float(most / (most + len(errors)))
