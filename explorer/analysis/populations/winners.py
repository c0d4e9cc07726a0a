"""Winners: the recipes of least error, and between which values of a statistic they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from explorer.analysis.populations.adjusting import LEVEL
from explorer.analysis.populations.correlation import rank_correlations
from explorer.analysis.populations.population import Population

__all__ = ["best_draws", "structure_bands", "winner_bands", "winners_of"]

_SHARE, _FEW = 0.1, 8
_DRAWS, _DRAWN = 10_000, 0.25


def winners_of(errors: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Return the places of the tenth of the recipes with the least errors, eight at least, best first."""
    given = np.asarray(errors, dtype=float)
    count = min(len(given), max(_FEW, math.ceil(_SHARE * len(given))))
    return np.argsort(given, kind="stable")[:count]


def best_draws(errors: npt.ArrayLike, rng: np.random.Generator, draws: int = _DRAWS) -> npt.NDArray[np.intp]:
    """Return the recipe of least error in each of many samples: the empirical bootstrap of Network Pruning Spaces.

    A sample is a quarter of the recipes, drawn with replacement. Of recipes with equal errors each is as likely.

    Parameters
    ----------
    errors
        (n,), n at least 1.
    rng
        Of the samples.
    draws
        How many samples.

    Returns
    -------
    numpy.ndarray
        (draws,) places.
    """
    given = np.asarray(errors, dtype=float)
    order = np.argsort(given, kind="stable")
    values = given[order]
    size = max(1, round(_DRAWN * len(given)))
    # in the order of errors the best of a sample is its first
    first = np.empty(draws, dtype=np.intp)
    for start in range(0, draws, 1000):
        part = first[start : start + 1000]
        part[:] = rng.integers(0, len(given), (len(part), size)).min(1)
    begin = np.searchsorted(values, values[first], side="left")
    end = np.searchsorted(values, values[first], side="right")
    return order[begin + (rng.random(draws) * (end - begin)).astype(np.intp)]


def winner_bands(population: Population, structure: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Return between which values of every statistic the best recipe of a sample lies.

    Parameters
    ----------
    population
        The recipes.
    structure
        Their statistics, see `structure_table`.
    rng
        Of the empirical bootstrap, see `best_draws`.

    Returns
    -------
    pandas.DataFrame
        One row a statistic: ``median``, ``low`` and ``high`` (the 95 % interval of the best recipe's value over 10,000
        draws of a quarter of the recipes), ``inside`` (the share of the population between `low` and `high`), and
        ``spearman``, ``p``, ``p_corrected`` of its rank correlation with error over the whole population.

    Notes
    -----
    The interval is where winners lie, and no confidence interval of a best value: about 15 recipes make it, however
    many there are, so that it holds a planted optimum nearly always. The interval of `fit_optimum` is one.
    """
    best = structure.iloc[best_draws(population.errors, rng)]
    quantiles = best.quantile([0.025, 0.5, 0.975])
    low, median, high = (quantiles.loc[q].to_numpy() for q in (0.025, 0.5, 0.975))
    values = structure.to_numpy(dtype=float)
    inside = ((values >= low) & (values <= high)).mean(0)
    frame = pd.DataFrame(
        {"statistic": list(structure.columns), "median": median, "low": low, "high": high, "inside": inside}
    )
    found = rank_correlations(structure.assign(error=population.errors), list(structure.columns))
    return frame.assign(**{name: found[name].to_numpy() for name in ("spearman", "p", "p_corrected")})


def structure_bands(table: pd.DataFrame, name: str, axes: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the bands by which the space of a population is refined: of rho, and of axes that matter for sure.

    An axis matters whose ratio is correlated with error at a corrected p-value below .05: the winners' band of another
    one is narrow by chance, and would leave out good recipes.

    Parameters
    ----------
    table
        Of `winner_bands`, with a column ``population``.
    name
        The population.
    axes
        Labels of the space's axes.
    """
    mine = table[table["population"] == name].set_index("statistic")
    bands = {"rho": (float(mine.loc["rho", "low"]), float(mine.loc["rho", "high"]))} if "rho" in mine.index else {}
    for axis in axes:
        if axis in mine.index and mine.loc[axis, "p_corrected"] < LEVEL:
            bands[axis] = float(mine.loc[axis, "low"]), float(mine.loc[axis, "high"])
    return bands
