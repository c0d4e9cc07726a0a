"""Which points of a frontier: the best within a budget, and those that together tell most of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from explorer.search.frontier import hypervolume
from spaces import COSTS, Budget, PruningError

__all__ = ["best_within", "chosen_trials", "telling"]


def best_within(front: pd.DataFrame, dense: Mapping[str, float], budget: Mapping[str, Any]) -> pd.Series:
    """Return the row of least error of a frontier table within a budget.

    Raises
    ------
    PruningError
        If no row is within it; the message tells the cheapest.
    """
    limits = Budget.parse(budget)
    excess = limits.excess({name: front[name].to_numpy(dtype=float) for name in COSTS}, dense)
    inside = np.all([np.ones(len(front)), *(value <= 0 for value in excess.values())], axis=0)
    if not inside.any():
        metric = limits.bounds[0][0] if limits.bounds else "flops"
        reach = f"the frontier begins at {front[f'{metric}_ratio'].min():.4g} of dense" if len(front) else "it is empty"
        raise PruningError(f"{metric}: no frontier point is within {dict(budget)}, {reach}")
    chosen = front[inside]
    return chosen.loc[chosen["error"].idxmin()]


def telling(values: npt.ArrayLike, points: int) -> list[int]:
    """Return the places of so many points of a frontier that together keep most of its hypervolume, in order.

    They are taken one after the other, each time the one that adds most; the reference is the worst of the points, in
    the last objective 1.

    Parameters
    ----------
    values
        (n, 2), errors and costs relative to dense, minimised; if there are no more than `points`, all are taken.
    points
        How many; 0 for none.
    """
    left = np.asarray(values, dtype=float).reshape(-1, 2)
    if len(left) <= points:
        return list(range(len(left)))
    reference = [left[:, 0].max(), 1.0]
    chosen: list[int] = []
    while len(chosen) < points:
        rest = [place for place in range(len(left)) if place not in chosen]
        chosen.append(max(rest, key=lambda place: hypervolume(left[[*chosen, place]], reference)))
    return sorted(chosen)


def chosen_trials(front: pd.DataFrame, points: int) -> list[int]:
    """Return the trials of so many points of a frontier that tell most of it, cheapest first."""
    places = telling(front[["error", "flops_ratio"]].to_numpy(), points)
    return [int(front["trial"].iloc[place]) for place in places]
