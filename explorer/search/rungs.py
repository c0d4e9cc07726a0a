"""Rungs: which recipes are evaluated further, and how far rungs agree."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence, Set
from dataclasses import dataclass

import moocore
import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from explorer.search.history import Record
from explorer.search.samplers import Past
from explorer.search.samplers.belief import Aim, Belief, Evidence
from explorer.search.samplers.domains import Recipes
from explorer.search.trials import Claim
from spaces import COSTS

__all__ = ["Agreement", "agreement", "at_highest", "best_first", "doubt", "failed_rung", "promotable"]

Row = npt.NDArray[np.int16]


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


def promotable(past: Past, eta: float, claims: Set[Claim]) -> tuple[Row, int] | None:
    """Return the recipe to evaluate at a further rung now, with that rung; None where there is none.

    One in `eta` of a rung's recipes goes on to the next, the highest rung first: asynchronous successive halving (Li et
    al. 2020, arXiv 1810.05934). It is the recipe from which the frontier of the last rung is expected to gain most,
    after all that was measured at any rung. Ranks at a low rung would not do: before they are trained, small
    sub-networks look all alike.

    Parameters
    ----------
    past
        The observations so far.
    eta
        Above 1.
    claims
        The rows, as bytes, with the rungs above the first that they were evaluated at, or are.
    """
    observed = past.observed
    for rung in reversed(range(past.rungs - 1)):
        here = observed.rungs == rung
        gone = {key for key, reached in claims if reached == rung + 1}
        if int(here.sum() / eta) > len(gone):
            waiting = np.flatnonzero(here)[[row.tobytes() not in gone for row in observed.rows[here]]]
            measured = {row.tobytes() for row in observed.rows[observed.rungs > rung]}
            return observed.rows[_most_promising(past, waiting, gone - measured)], rung + 1
    return None


def _most_promising(past: Past, waiting: npt.NDArray[np.intp], running: Set[bytes]) -> int:
    """Return which of the observations promises the last rung's frontier most, with some rows under evaluation."""
    observed = past.observed
    if all(name in COSTS for name in past.objectives):
        # all is known, and no rung changes it
        return int(waiting[best_first(observed.values[waiting])[0]])
    aim = Aim.of(past.objectives, past.reference)
    belief = Belief.of(Recipes(past), Evidence.of(past), aim, past.memo)
    under = [np.frombuffer(key, dtype=np.int16) for key in sorted(running)]
    supposed = belief.supposing(np.array(under, dtype=np.int16).reshape(len(under), len(past.space.axes)))
    return int(waiting[supposed.gain(observed.rows[waiting]).argmax()])


@dataclass(frozen=True)
class Agreement:
    """How far two rungs agree: Kendall's `tau` between the errors of the `recipes` that were evaluated at both."""

    tau: float
    recipes: int


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


def at_highest(records: Sequence[Record]) -> list[Record]:
    """Return the records of the frontier's rung: the highest that any ended well, those that saw all inputs there."""
    ended = [record for record in records if record.values is not None]
    highest = max((record.rung for record in ended), default=0)
    here = [record for record in ended if record.rung == highest]
    inputs = [record.metrics.get("validation_inputs", np.inf) for record in here]
    return [record for record, seen in zip(here, inputs, strict=True) if seen == max(inputs)]


def agreement(records: Sequence[Record]) -> dict[str, Agreement]:
    """Return the agreement of each rung with the next, ``0-1`` and so on, over the recipes that have both.

    Rungs with fewer than three such recipes, or with equal errors, have none.
    """
    found = {}
    for rung in range(max((record.rung for record in records), default=0)):
        ladders = [[*record.lower, record.metrics] for record in records if record.rung > rung]
        pairs = np.array([[ladder[rung]["error"], ladder[rung + 1]["error"]] for ladder in ladders])
        tau = kendalltau(*pairs.T).statistic if len(pairs) > 2 else np.nan
        if np.isfinite(tau):
            found[f"{rung}-{rung + 1}"] = Agreement(float(tau), len(pairs))
    return found
