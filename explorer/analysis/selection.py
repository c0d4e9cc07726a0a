"""Which points of a frontier: the best within limits, and those that together tell most of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from explorer.search.frontier import hypervolume
from explorer.search.metrics import METRICS, Metric
from spaces import COSTS, Budget, PruningError, unknown

__all__ = [
    "LIMITS",
    "best_within",
    "checked_limits",
    "chosen_trials",
    "ends_first",
    "knee",
    "telling",
    "trial_row",
]

_LATENCIES = {"latency_ms": "latency_ms", "latency": "latency_ratio"}
LIMITS = (*COSTS, *_LATENCIES, "error")
"""What a point can be asked for by: costs, latency in milliseconds or relative to dense, and the error."""


def best_within(
    front: pd.DataFrame, dense: Mapping[str, float], limits: Mapping[str, Any], *, error: Metric = METRICS["error"]
) -> pd.Series:
    """Return the row of least error of a frontier table within limits on costs; with one on the error the cheapest.

    Parameters
    ----------
    front
        A frontier, cheapest first.
    dense
        The dense network's costs.
    limits
        By `LIMITS`: exact costs as `Budget.parse` takes them, the most milliseconds for one input, the most error.
    error
        How errors are shown.

    Raises
    ------
    PruningError
        If a limit is not allowed, or no row is within all of them; the message tells how near the frontier comes.
    """
    given = checked_limits(limits)
    if not len(front):
        raise PruningError("frontier: no point is on it, as no trial ended well")
    inside = np.ones(len(front), dtype=bool)
    for key, within, nearest in _within(front, dense, given, error):
        inside &= within
        if not inside.any():
            asked = ", ".join(f"{name}={value}" for name, value in given.items())
            raise PruningError(f"{key}: no frontier point is within {asked}, {nearest}")
    chosen = front[inside]
    return chosen.iloc[0] if "error" in given else chosen.loc[chosen["error"].idxmin()]


def knee(front: pd.DataFrame, cost: str) -> pd.Series:
    """Return the row of a frontier table at its knee: from there on, less cost is paid for with ever more error.

    That is the point furthest below the straight line between the frontier's ends, with cost and error each scaled to
    0 at its least and 1 at its greatest (Satopää et al. 2011). The cost is not taken by its logarithm: budgets are
    shares of the dense network's cost and so is the hypervolume's, and a logarithm would let the cheapest few points
    decide.

    Parameters
    ----------
    front
        A frontier, cheapest first.
    cost
        The column of the cost; of points equally far below the line the cheapest is taken.

    Raises
    ------
    PruningError
        If it has no point, or several and none below the line: every point is then as good a compromise as another.
    """
    if not len(front):
        raise PruningError("frontier: no point is on it, as no trial ended well")
    costs, errors = (front[column].to_numpy(dtype=float) for column in (cost, "error"))
    if len(front) == 1:
        return front.iloc[0]
    spans = [max(float(np.ptp(values)), 1e-300) for values in (costs, errors)]
    x, y = (costs - costs.min()) / spans[0], (errors - errors.min()) / spans[1]
    below = 1 - x - y
    if not below.max() > 1e-9:
        raise PruningError(
            "knee: no frontier point lies below the line between its ends, allowed are a budget, --error or --trial"
        )
    return front.iloc[int(below.argmax())]


def trial_row(trials: pd.DataFrame, trial: int) -> pd.Series:
    """Return the row of a trial that ended well.

    Parameters
    ----------
    trials
        As `explorer.analysis.tables.at_rung` gives them, or all.
    trial
        Its number.

    Raises
    ------
    PruningError
        If there is none of that number, or it failed.
    """
    found = trials[trials["trial"] == trial]
    if not len(found):
        known = f"0 to {int(trials['trial'].max())}" if len(trials) else "none"
        raise PruningError(f"trial: {trial}, allowed are those that there are: {known}")
    row = found.iloc[0]
    if row["state"] != "COMPLETE":
        raise PruningError(f"trial: {trial} failed ({row['reason']}), allowed are those that ended well")
    return row


def ends_first(n: int) -> list[int]:
    """Return the places 0 to n - 1 so that however many of them are taken, they are spread over all.

    Both ends come first, then the middle of the widest gap that is left, and so on.

    Examples
    --------
    >>> ends_first(6)
    [0, 5, 2, 3, 1, 4]
    """
    order = [0, n - 1][: min(n, 2)]
    while len(order) < n:
        taken = sorted(order)
        # of equal gaps the first
        low, high = max(pairwise(taken), key=lambda gap: gap[1] - gap[0])
        order.append((low + high) // 2)
    return order


def checked_limits(limits: Mapping[str, Any], key: str = "limit") -> dict[str, Any]:
    """Return limits by `LIMITS`, without those that are None.

    Raises
    ------
    PruningError
        If one is unknown, or no amount that is allowed; `key` is what the user called the mapping.
    """
    given = {name: value for name, value in limits.items() if value is not None}
    for name, value in given.items():
        if name not in LIMITS:
            raise unknown(key, name, LIMITS)
        if name not in COSTS and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            raise PruningError(f"{name}: {value!r}, allowed is a number > 0")
    Budget.parse({name: value for name, value in given.items() if name in COSTS}, key)
    return given


def _within(
    front: pd.DataFrame, dense: Mapping[str, float], limits: Mapping[str, Any], error: Metric
) -> list[tuple[str, npt.NDArray[np.bool_], str]]:
    """Return for each limit its key, which rows are within it, and how near the frontier comes to it."""
    costs = {name: front[name].to_numpy(dtype=float) for name in COSTS if name in front}
    budget = Budget.parse({key: value for key, value in limits.items() if key in COSTS})
    found = []
    for name, excess in budget.excess(costs, dense).items():
        nearest = f"the frontier begins at {front[f'{name}_ratio'].min():.4g} of dense"
        found.append((name, np.asarray(excess <= 0), nearest))
    for key, column in _LATENCIES.items():
        if key in limits:
            most = limits[key]
            if column not in front:
                raise PruningError(f"{key}: {most:g}, but the latency of these points was not measured")
            unit = "ms" if key == "latency_ms" else "of dense"
            nearest = f"the fastest takes {front[column].min():.4g} {unit}"
            found.append((key, front[column].to_numpy(dtype=float) <= most, nearest))
    if "error" in limits:
        most = limits["error"]
        if error.scale == 100 and most > 1:
            raise PruningError(f"error: {most:g}, allowed is a share such as {most / 100:g} for {most:g} %")
        others = [within for _, within, _ in found]
        left = front[np.all(others, axis=0)] if others else front
        # in the unit that the limit was given in
        nearest = f"the least error {'there ' if others else ''}is {left['error'].min():.4g}"
        found.append(("error", front["error"].to_numpy(dtype=float) <= most, nearest))
    return found


def telling(values: npt.ArrayLike, points: int, first: Sequence[int] = ()) -> list[int]:
    """Return the places of so many points of a frontier that together keep most of its hypervolume, in order.

    They are taken one after the other, each time the one that adds most; the reference is the worst of the points, in
    the last objective 1.

    Parameters
    ----------
    values
        (n, 2), errors and costs relative to dense, minimised; if there are no more than `points`, all are taken.
    points
        How many; 0 for none.
    first
        Places that are taken before any other.
    """
    left = np.asarray(values, dtype=float).reshape(-1, 2)
    if len(left) <= points:
        return list(range(len(left)))
    reference = [left[:, 0].max(), 1.0]
    chosen = list(first)[:points]
    while len(chosen) < points:
        rest = [place for place in range(len(left)) if place not in chosen]
        chosen.append(max(rest, key=lambda place: hypervolume(left[[*chosen, place]], reference)))
    return sorted(chosen)


def chosen_trials(
    front: pd.DataFrame,
    points: int,
    *,
    dense: Mapping[str, float],
    at: Mapping[str, Any] | None = None,
    bounded: bool = False,
) -> list[int]:
    """Return the trials of the frontier points to retrain, first the one that is asked for.

    Parameters
    ----------
    front
        A frontier, cheapest first.
    points
        How many that tell most of it.
    dense
        The dense network's costs.
    at
        Limits as `best_within` takes them, of one point more.
    bounded
        Whether the frontier lies within a budget: its best point, which is next to it, is then one of the `points`.

    Raises
    ------
    PruningError
        If no point is within `at`.
    """

    if not len(front):
        return []
    asked = [best_within(front, dense, at)["trial"]] if at else []
    best = [int(front["error"].argmin())] if bounded and points else []
    told = telling(front[["error", "flops_ratio"]].to_numpy(), points, best)
    return [int(trial) for trial in dict.fromkeys([*asked, *front["trial"].iloc[[*best, *told]]])]
