"""Rungs: which recipes are evaluated further, and how far rungs agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import moocore
import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from explorer.search.history import Record
from explorer.search.samplers import Observations

__all__ = ["agreement", "best_first", "doubt", "failed_rung", "promotable"]


def best_first(values: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Return the (n, objectives) points in order: by the front they are on, then by what they add to its volume.

    All objectives are minimised. The first front is the non-dominated points, the next those of what is left; the
    volume is bounded by the worst of the points.
    """
    if len(values) < 2 or values.shape[1] == 1:
        # one objective has no volume that a point adds to
        return np.argsort(values[:, 0], kind="stable")
    ranks = moocore.pareto_rank(values)
    low, span = values.min(0), np.ptp(values, axis=0)
    scaled = (values - low) / np.where(span > 0, span, 1)
    added = np.empty(len(values))
    for rank in np.unique(ranks):
        front = np.flatnonzero(ranks == rank)
        added[front] = moocore.hv_contributions(scaled[front], ref=[1.1] * values.shape[1])
    return np.lexsort((-added, ranks))


def promotable(observed: Observations, rung: int, eta: float) -> npt.NDArray[np.intp]:
    """Return which observations of a rung are its best 1/eta, as positions, the best first.

    That is asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) with more than one objective, as in
    MO-ASHA (Schmucker et al. 2021, arXiv 2106.12639).
    """
    here = np.flatnonzero(observed.rungs == rung)
    return here[best_first(observed.values[here])][: int(len(here) / eta)]


def doubt(trials: int, rungs: int, eta: float) -> str | None:
    """Return a sentence for a study of so many trials whose last rung nothing need ever reach, None for others."""
    needed = 1
    for _ in range(rungs - 1):
        needed = next(count for count in itertools.count(math.floor(needed * eta)) if int(count / eta) >= needed)
    if trials >= needed:
        return None
    return f"of {trials} trials none may reach the last of {rungs} rungs, which takes {needed} with eta {eta:g}"


def failed_rung(records: Sequence[Record], least: int = 1) -> str | None:
    """Return a sentence for a rung that was evaluated `least` times or more and never well, None without any."""
    reasons: dict[int, list[str]] = {}
    for record in records:
        if record.state == "COMPLETE" and record.reason is not None:
            reasons.setdefault(record.rung + 1, []).append(record.reason)
    for rung, failed in sorted(reasons.items()):
        if len(failed) >= least and all(record.rung < rung for record in records):
            return f"rung {rung}: all of {len(failed)} evaluations failed: {failed[-1].removeprefix(f'rung {rung}: ')}"
    return None


def agreement(records: Sequence[Record]) -> dict[str, float]:
    """Return Kendall's tau between the errors of each rung and the next, over the recipes that have both.

    Rungs with fewer than three such recipes, or with equal errors, have none.
    """
    taus = {}
    for rung in range(max((record.rung for record in records), default=0)):
        ladders = [[*record.lower, record.metrics] for record in records if record.rung > rung]
        pairs = np.array([[ladder[rung]["error"], ladder[rung + 1]["error"]] for ladder in ladders])
        tau = kendalltau(*pairs.T).statistic if len(pairs) > 2 else np.nan
        if np.isfinite(tau):
            taus[f"{rung}-{rung + 1}"] = float(tau)
    return taus
