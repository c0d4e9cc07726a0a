"""Empirical distributions of errors, plain and with equal weight for every range of FLOPs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from explorer.analysis.populations.population import Population
from spaces import PruningError

__all__ = ["edf", "edf_table", "evaluations_table", "flops_bins", "summary_table"]

_BINS = 10
_DRAWS = 1000

Floats = npt.NDArray[np.float64]


def edf(errors: npt.ArrayLike, at: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Floats:
    """Return ``F(e) = sum_i w_i 1[e_i < e]`` for every e of `at`.

    Parameters
    ----------
    errors
        (n,), n at least 1.
    at
        (m,) errors at which the function is wanted.
    weights
        (n,), of sum 1; equal ones by default.

    Examples
    --------
    >>> edf([0.1, 0.2, 0.2, 0.4], [0.1, 0.2, 0.3, 1]).tolist()
    [0.0, 0.25, 0.75, 1.0]
    """
    given = np.asarray(errors, dtype=float)
    share = np.full(len(given), 1 / len(given)) if weights is None else np.asarray(weights, dtype=float)
    order = np.argsort(given, kind="stable")
    below = np.concatenate([[0.0], np.cumsum(share[order])])
    return np.minimum(below[np.searchsorted(given[order], np.asarray(at, dtype=float), side="left")], 1.0)


def flops_bins(populations: Sequence[Population], bins: int = _BINS) -> list[npt.NDArray[np.intp]]:
    """Return for each population the range of FLOPs of every recipe, -1 outside the ranges that all populations hold.

    Ranges are equally long, from the least to the greatest FLOPs of all. The FLOPs-normalised EDF gives each of them
    the same weight: a space is then not better because more of its recipes are expensive.

    Raises
    ------
    PruningError
        If no range holds recipes of every population.
    """
    every = np.concatenate([one.flops for one in populations])
    edges = np.linspace(every.min(), every.max(), bins + 1)[1:-1]
    places = [np.searchsorted(edges, one.flops, side="right") for one in populations]
    common = [b for b in range(bins) if all((place == b).any() for place in places)]
    if not common:
        names = ", ".join(one.name for one in populations)
        raise PruningError(f"populations: {names} have no FLOPs in common, which a FLOPs-normalised EDF needs")
    return [np.where(np.isin(place, common), place, -1) for place in places]


def bin_weights(places: npt.NDArray[np.intp], counts: Floats) -> Floats:
    """Return the weights of recipes that occur `counts` times each: equal in all for every range that occurs.

    Parameters
    ----------
    places
        (n,) ranges, as `flops_bins` returns them.
    counts
        (k, n), one row a sample.

    Returns
    -------
    numpy.ndarray
        (k, n), rows of sum 1 (of 0 where no recipe of the sample is in any range).
    """
    member = places[:, None] == np.unique(places[places >= 0])
    held = counts @ member
    each = np.divide(1.0, held, out=np.zeros_like(held), where=held > 0)
    used = np.maximum((held > 0).sum(1, keepdims=True), 1)
    return counts * (each @ member.T) / used


def edf_table(
    populations: Sequence[Population],
    rng: np.random.Generator,
    *,
    normalised: bool = False,
    draws: int = _DRAWS,
) -> pd.DataFrame:
    """Return the empirical distribution of every population: population, error, share, low and high.

    One row for each different error. `share` is F just above `error`, the share of recipes of at most that error;
    `low` and `high` are its pointwise 95 % interval over `draws` bootstrap samples.

    Parameters
    ----------
    populations
        One or more.
    rng
        Of the bootstrap.
    normalised
        Whether every range of FLOPs has the same weight, see `flops_bins`.
    draws
        Bootstrap samples.
    """
    bins = flops_bins(populations) if normalised else [np.zeros(len(one), dtype=np.intp) for one in populations]
    frames = []
    for one, places in zip(populations, bins, strict=True):
        order = np.argsort(one.errors, kind="stable")
        errors, places = one.errors[order], places[order]
        n = len(errors)
        counts = np.concatenate([np.ones((1, n)), rng.multinomial(n, np.full(n, 1 / n), draws).astype(float)])
        heights = np.cumsum(bin_weights(places, counts), axis=1)
        last = np.flatnonzero(np.append(np.diff(errors) > 0, True))
        low, high = np.quantile(heights[1:, last], [0.025, 0.975], axis=0)
        share = np.minimum(heights[0, last], 1.0)
        frames.append(
            pd.DataFrame({"population": one.name, "error": errors[last], "share": share, "low": low, "high": high})
        )
    return pd.concat(frames, ignore_index=True)


def evaluations_table(populations: Sequence[Population], shares: Sequence[float] = (0.25, 0.1, 0.05)) -> pd.DataFrame:
    """Return how many recipes a random search evaluates on average until one has no more than a given error.

    Parameters
    ----------
    populations
        The first sets the errors, the others are compared with it.
    shares
        Of the first population, which reach the errors.

    Returns
    -------
    pandas.DataFrame
        ``population``, ``share``, ``error`` and ``evaluations``, with a 95 % interval (``_low``, ``_high``, Clopper and
        Pearson's of the share of the population that reaches the error; without bound where none does).
    """
    rows = []
    for share in shares:
        error = float(np.quantile(populations[0].errors, share))
        for one in populations:
            reached = stats.binomtest(int((one.errors <= error).sum()), len(one))
            low, high = reached.proportion_ci(method="exact")
            row = {"population": one.name, "share": share, "error": error}
            for name, part in (("", reached.statistic), ("_low", high), ("_high", low)):
                row[f"evaluations{name}"] = 1 / part if part else np.inf
            rows.append(row)
    return pd.DataFrame(rows)


def summary_table(populations: Sequence[Population]) -> pd.DataFrame:
    """Return one row a population: n, failed, FLOPs and ratio in the middle, and quantiles of the error."""
    rows = []
    for one in populations:
        least, quarter, median, three = np.quantile(one.errors, [0, 0.25, 0.5, 0.75])
        rows.append(
            {
                "population": one.name,
                **one.circumstances,
                "n": len(one),
                "failed": one.failed,
                "flops": float(np.median(one.flops)),
                one.ratio: float(one.table[one.ratio].median()),
                "error_best": least,
                "error_quarter": quarter,
                "error_median": median,
                "error_three_quarters": three,
            }
        )
    return pd.DataFrame(rows)
