"""Populations against each other: are their errors of one distribution, which is better, and by how much."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from explorer.analysis.populations.adjusting import LEVEL, holm
from explorer.analysis.populations.edf import bin_weights, flops_bins
from explorer.analysis.populations.population import LEAST, Population, check_comparable

__all__ = ["compare", "superiority"]

_PERMUTATIONS = 2000
_TESTS = ("ks", "mann_whitney", "ks_normalised")

Floats = npt.NDArray[np.float64]


def superiority(first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[float, float, float]:
    """Return the probability that an error of `first` is below one of `second`, ties halved, and its 95 % interval.

    1/2 is no difference. The interval is DeLong's, on the logit scale; where one sample wins all pairs, Clopper's and
    Pearson's of as many independent pairs as the smaller sample has.

    Examples
    --------
    >>> superiority([0.1, 0.2], [0.2, 0.3])[0]
    0.875
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    wins = (a[:, None] < b).astype(float) + 0.5 * (a[:, None] == b)
    share = float(wins.mean())
    if share in (0, 1):
        least = min(len(a), len(b))
        exact = stats.binomtest(int(share) * least, least).proportion_ci(method="exact")
        return share, float(exact.low), float(exact.high)
    parts = [wins.mean(1), wins.mean(0)]
    variance = sum(float(part.var(ddof=1)) / len(part) for part in parts if len(part) > 1)
    spread = 1.96 * np.sqrt(variance) / (share * (1 - share))
    low, high = 1 / (1 + np.exp(-(np.log(share / (1 - share)) + np.array([-spread, spread]))))
    return share, min(float(low), share), max(float(high), share)


def compare(populations: Sequence[Population], rng: np.random.Generator) -> pd.DataFrame:
    """Return one row for every two populations: are their errors alike, and which has the smaller ones.

    Parameters
    ----------
    populations
        Of one network, one protocol, one seed and equally many recipes.
    rng
        Of the permutations.

    Returns
    -------
    pandas.DataFrame
        ``first``, ``second``; ``ks`` (two-sample Kolmogorov-Smirnov distance) with ``ks_p``; ``mann_whitney_p``;
        ``ks_normalised`` (the distance of the FLOPs-normalised EDFs) with ``ks_normalised_p``, by permuting errors
        between recipes of the same range of FLOPs; ``superiority`` (the probability that an error of the first is
        below one of the second) with its interval; ``median_difference`` (first minus second). ``..._corrected`` are
        p-values corrected for all tests of the table. ``words`` says what follows.

    Raises
    ------
    PruningError
        If the populations can't be compared.
    """
    check_comparable(populations, ("network", "protocol", "seed"))
    rows = []
    for first, second in combinations(populations, 2):
        ks = stats.ks_2samp(first.errors, second.errors)
        rank = stats.mannwhitneyu(first.errors, second.errors, alternative="two-sided")
        distance, p = _normalised(first, second, rng)
        share, low, high = superiority(first.errors, second.errors)
        rows.append(
            {
                "first": first.name,
                "second": second.name,
                "n": min(len(first), len(second)),
                "ks": float(ks.statistic),
                "ks_p": float(ks.pvalue),
                "mann_whitney_p": float(rank.pvalue),
                "ks_normalised": distance,
                "ks_normalised_p": p,
                "superiority": share,
                "superiority_low": low,
                "superiority_high": high,
                "median_difference": float(np.median(first.errors) - np.median(second.errors)),
            }
        )
    table = pd.DataFrame(rows)
    corrected = holm(table[[f"{test}_p" for test in _TESTS]].to_numpy().ravel()).reshape(-1, len(_TESTS))
    for place, test in enumerate(_TESTS):
        table[f"{test}_corrected"] = corrected[:, place]
    return table.assign(words=[_words(row) for row in table.to_dict("records")])


def _normalised(first: Population, second: Population, rng: np.random.Generator) -> tuple[float, float]:
    """Return the distance of two FLOPs-normalised EDFs, and the share of permutations with as large a one."""
    places = np.concatenate(flops_bins([first, second]))
    errors = np.concatenate([first.errors, second.errors])
    mine = np.repeat([True, False], [len(first), len(second)])
    kept = places >= 0
    places, errors, mine = places[kept], errors[kept], mine[kept]
    order = np.argsort(errors, kind="stable")
    places, errors, mine = places[order], errors[order], mine[order]
    last = np.append(np.diff(errors) > 0, True)
    # who belongs to whom is drawn anew within every range
    drawn = np.tile(mine, (_PERMUTATIONS + 1, 1))
    for place in np.unique(places):
        inside = np.flatnonzero(places == place)
        drawn[1:, inside] = rng.permuted(drawn[1:, inside], axis=1)
    heights = [np.cumsum(bin_weights(places, who.astype(float)), axis=1)[:, last] for who in (drawn, ~drawn)]
    distances = np.abs(heights[0] - heights[1]).max(1)
    return float(distances[0]), float((distances >= distances[0] - 1e-12).mean())


def _words(row: dict[str, object]) -> str:
    """Return a comparison as a sentence."""
    n = int(row["n"])  # type: ignore[call-overload]
    names = f"{row['first']} and {row['second']}"
    if n < LEAST:
        return f"undecided: {n} recipes, a claim about {names} needs {LEAST} at least"
    numbers = (
        f"KS {row['ks']:.3f} (p = {row['ks_corrected']:.2g}), FLOPs-normalised {row['ks_normalised']:.3f} "
        f"(p = {row['ks_normalised_corrected']:.2g}), Mann-Whitney p = {row['mann_whitney_corrected']:.2g}, corrected"
    )
    share = f"{row['superiority']:.2f} ({row['superiority_low']:.2f} to {row['superiority_high']:.2f})"
    better, worse = (row["first"], row["second"]) if row["superiority"] >= 0.5 else (row["second"], row["first"])  # type: ignore[operator]
    told = f"an error of {row['first']} is below one of {row['second']} with probability {share}; {numbers}"
    if row["mann_whitney_corrected"] < LEVEL:  # type: ignore[operator]
        return f"{better} has smaller errors than {worse}: {told}"
    if row["ks_corrected"] < LEVEL or row["ks_normalised_corrected"] < LEVEL:  # type: ignore[operator]
        return f"{names} differ in distribution, neither is better throughout: {told}"
    return f"no difference of {names} is shown: {told}"
