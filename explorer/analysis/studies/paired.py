"""Paired: two sets of runs compared, seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from explorer.analysis.multirun_folder import BUDGETS, error_column
from explorer.analysis.naming import model_name
from explorer.analysis.studies.convergence import hypervolume_curve
from explorer.analysis.studies.result import StudyResult
from explorer.analysis.studies.series import flat_choices
from explorer.search.metrics import Metric
from spaces import PruningError

__all__ = ["Comparison", "bootstrap_interval", "compare_sets"]

_DRAWS = 10_000
# below so many pairs a bootstrap's interval is too narrow
_FEW = 5


@dataclass(frozen=True)
class Comparison:
    """What two sets of runs tell, paired by seed.

    Attributes
    ----------
    names
        Of the sets.
    pairs
        One row a pair: ``pair``, ``trials`` (which both have), ``hypervolume`` and the least errors within the
        `BUDGETS`, each as ``_a`` and ``_b``.
    differences
        One row a measure: ``measure``, ``a`` and ``b`` (means over pairs), ``difference`` (b - a), ``low`` and ``high``
        (95 % interval of the mean difference, NaN for a single pair) and ``pairs``.
    left
        Sentences on what has no partner or is no fair comparison.
    error
        How errors are shown.
    """

    names: tuple[str, str]
    pairs: pd.DataFrame
    differences: pd.DataFrame
    left: list[str] = field(default_factory=list)
    error: Metric = field(default_factory=lambda: Metric("error", "validation error (%)", 100))

    def words(self) -> list[str]:
        """Return the differences in words, a sentence each."""
        sentences = [self._sentence(row) for _, row in self.differences.iterrows()]
        few = int(self.differences["pairs"].max())
        if 1 < few < _FEW:
            sentences.append(f"An interval of {few} pairs is too narrow: more seeds would tell more.")
        return sentences + self.left

    def _sentence(self, row: pd.Series) -> str:
        volume = row["measure"] == "hypervolume"
        text = (lambda value: f"{value:.4f}") if volume else self.error.text
        unit = "" if volume else f" {self.error.label}"
        what = row["measure"] if volume else f"least error within {float(row['measure']):.0%} of the FLOPs"
        first, second = self.names
        shown = f"{what}: {first} {text(row['a'])}, {second} {text(row['b'])}{unit}"
        if row["pairs"] == 1:
            return f"{shown}; one pair of seeds tells no interval."
        low, high = float(row["low"]), float(row["high"])
        if low <= 0 <= high:
            interval = f"95 % interval of {second} less {first} {text(low)} to {text(high)}, {row['pairs']} pairs"
            return f"{shown}; no sure difference ({interval})."
        better = second if (row["difference"] > 0) == volume else first
        low, high = sorted((abs(low), abs(high)))
        interval = f"95 % interval {text(low)} to {text(high)}, {row['pairs']} pairs"
        return f"{shown}; {better} is better by {text(abs(row['difference']))} ({interval})."


def compare_sets(first: Sequence[StudyResult], second: Sequence[StudyResult], names: tuple[str, str]) -> Comparison:
    """Return how two sets of runs compare, each run with the one of the same seed in the other set.

    Runs of a set that differ in more than their seeds, such as their spaces, are paired with those of the same choices.
    Both of a pair are looked at after as many trials as both have.

    Parameters
    ----------
    first, second
        The sets.
    names
        What they are called.

    Raises
    ------
    PruningError
        If nothing can be paired, a run has several partners, or a pair's errors do not compare.
    """
    keys = _varying(first) | _varying(second)
    sides = [_by_key(runs, keys, name) for runs, name in zip((first, second), names, strict=True)]
    shared = [key for key in sides[0] if key in sides[1]]
    if not shared:
        raise PruningError(
            f"compare: no run of {names[0]!r} has one of the same seed and choices in {names[1]!r}, "
            f"seeds there are {_seeds(first)} and {_seeds(second)}"
        )
    rows, left = [], []
    for key in shared:
        a, b = sides[0][key], sides[1][key]
        _check_pair(a, b)
        for what in ("network", "data_identity"):
            if a.config["facts"].get(what) != b.config["facts"].get(what):
                left.append(
                    f"The runs of {_told(key)} were made with different {what.partition('_')[0]}: no fair pair."
                )
        trials = min(len(a.trials), len(b.trials))
        rows.append({"pair": _told(key), "trials": trials} | _measures(a, trials, "a") | _measures(b, trials, "b"))
    for name, mine, other in ((names[0], sides[0], sides[1]), (names[1], sides[1], sides[0])):
        alone = [_told(key) for key in mine if key not in other]
        if alone:
            left.append(f"Without a partner in {name}: {'; '.join(alone)}.")
    pairs = pd.DataFrame(rows)
    error = sides[0][shared[0]].error
    return Comparison(names, pairs, _differences(pairs), list(dict.fromkeys(left)), error)


def _varying(runs: Sequence[StudyResult]) -> set[str]:
    """Return in which keys runs of one set differ."""
    flat = [flat_choices(run.config) for run in runs]
    keys = {key for one in flat for key in one}
    return {key for key in keys if len({repr(one.get(key)) for one in flat}) > 1}


def _by_key(runs: Sequence[StudyResult], keys: set[str], name: str) -> dict[tuple[Any, ...], StudyResult]:
    found: dict[tuple[Any, ...], StudyResult] = {}
    for run in runs:
        flat = flat_choices(run.config)
        key = (run.seed, *((one, repr(flat.get(one))) for one in sorted(keys)))
        if key in found:
            raise PruningError(f"compare: {name!r} has two runs of {_told(key)}, allowed is one")
        found[key] = run
    return found


def _told(key: tuple[Any, ...]) -> str:
    choices = [value.strip("'") if name.endswith(".name") else f"{name}={value}" for name, value in key[1:]]
    return ", ".join([f"seed {key[0]}", *choices])


def _seeds(runs: Sequence[StudyResult]) -> str:
    return ", ".join(map(str, sorted({run.seed for run in runs})))


def _check_pair(a: StudyResult, b: StudyResult) -> None:
    for what, value in {
        "model": lambda one: model_name(one.config),
        "data": lambda one: one.config["data"]["name"],
        "task": lambda one: one.config["task"]["name"],
        "objectives": lambda one: one.scale.objectives,
        "hypervolume's reference": lambda one: one.scale.reference,
    }.items():
        if value(a) != value(b):
            raise PruningError(f"compare: {value(a)!r} and {value(b)!r}, allowed are two sets of one {what}")


def _measures(run: StudyResult, trials: int, side: str) -> dict[str, float]:
    curve = hypervolume_curve(run.trials, run.scale)["hypervolume"]
    early = run.finished[run.finished["trial"].isin(run.trials["trial"].iloc[:trials])]
    found = {f"hypervolume_{side}": float(curve.iloc[trials - 1]) if trials else 0.0}
    for budget in BUDGETS:
        found[f"{error_column(budget)}_{side}"] = float(early.loc[early["flops_ratio"] <= budget, "error"].min())
    return found


def _differences(pairs: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for measure, column in [("hypervolume", "hypervolume"), *((str(b), error_column(b)) for b in BUDGETS)]:
        both = pairs[[f"{column}_a", f"{column}_b"]].dropna().to_numpy(dtype=float)
        if not len(both):
            continue
        gaps = both[:, 1] - both[:, 0]
        low, high = bootstrap_interval(gaps)
        rows.append(
            {
                "measure": measure,
                "a": both[:, 0].mean(),
                "b": both[:, 1].mean(),
                "difference": gaps.mean(),
                "low": low,
                "high": high,
                "pairs": len(both),
            }
        )
    return pd.DataFrame(rows)


def bootstrap_interval(values: npt.ArrayLike, share: float = 0.95) -> tuple[float, float]:
    """Return the percentile bootstrap's interval of a mean, the same for the same values; NaN for fewer than two.

    Parameters
    ----------
    values
        (n,), such as differences of pairs.
    share
        How much of the resampled means lies inside.
    """
    given = np.asarray(values, dtype=float)
    if len(given) < 2:
        return float("nan"), float("nan")
    rng = np.random.default_rng(0)
    means = given[rng.integers(0, len(given), (_DRAWS, len(given)))].mean(1)
    low, high = np.quantile(means, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)
