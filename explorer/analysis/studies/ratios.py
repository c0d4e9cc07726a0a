"""Ratios: what the recipes of a frontier keep on every axis."""

from __future__ import annotations

import numpy as np
import pandas as pd

from explorer.analysis.tables import known_rows
from spaces import PruningSpace

__all__ = ["frontier_ratios"]


def frontier_ratios(front: pd.DataFrame, space: PruningSpace, most: int = 60) -> pd.DataFrame:
    """Return the ratio kept on every axis by the recipes of a frontier, cheapest first, one row an axis and recipe.

    Columns: ``trial``, ``place`` (0 for the cheapest), ``axis``, ``ratio``, ``choice`` (as text), ``error`` and
    ``flops_ratio``.

    Parameters
    ----------
    front
        A frontier.
    space
        The space of its recipes; those that it has not are left out.
    most
        Recipes; of a longer frontier so many, evenly spaced.
    """
    columns = ["trial", "place", "axis", "ratio", "choice", "error", "flops_ratio"]
    front = front.sort_values("flops_ratio", kind="stable").reset_index(drop=True)
    if len(front) > most:
        front = front.iloc[np.unique(np.linspace(0, len(front) - 1, most).round().astype(int))].reset_index(drop=True)
    rows, known = known_rows(front, space)
    if not known.any():
        return pd.DataFrame(columns=columns)
    front, rows = front[known].reset_index(drop=True), rows[known]
    frames = []
    for i, axis in enumerate(space.axes):
        names = np.array([_text(axis.part, choice) for choice in axis.choices], dtype=object)
        frames.append(
            pd.DataFrame(
                {
                    "trial": front["trial"].astype(int),
                    "place": np.arange(len(front)),
                    "axis": axis.label,
                    "ratio": np.asarray(axis.ratios)[rows[:, i]],
                    "choice": names[rows[:, i]],
                    "error": front["error"],
                    "flops_ratio": front["flops_ratio"],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)[columns]


def _text(part: str, choice: object) -> str:
    if part == "blocks":
        return "kept" if choice else "dropped"
    return "dense" if choice in (None, 1) else str(choice)
