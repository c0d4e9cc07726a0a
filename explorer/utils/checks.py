"""Checks of single values, shared by the command and the Python entrance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from explorer.search.metrics import OBJECTIVES
from spaces import PruningError, unknown
from spaces.granularity import checked_ratio

__all__ = ["Ladder", "checked_ladder", "checked_number", "checked_objectives"]

Ladder = int | Sequence[float]
"""Uniform ratios that a study begins with: how many, or which."""


def checked_number(
    key: str, value: Any, *, least: float, whole: bool = True, optional: bool = False, above: bool = False
) -> None:
    """Check that a value is a finite number.

    Parameters
    ----------
    key
        What the user calls it.
    value
        Anything.
    least
        The smallest value allowed, or with `above` the value it must exceed.
    whole
        Whether only whole numbers are allowed.
    optional
        Whether None is allowed.

    Raises
    ------
    PruningError
        If it is anything else.
    """
    if value is None and optional:
        return
    kinds = int if whole else int | float
    small = isinstance(value, kinds) and (value <= least if above else value < least)
    if isinstance(value, bool) or not isinstance(value, kinds) or small or not math.isfinite(value):
        kind = "whole number" if whole else "number"
        raise PruningError(f"{key}: {value!r}, allowed is a {kind} {'>' if above else '>='} {least}")


def checked_ladder(ladder: Any) -> None:
    """Check that `ladder` is a number of uniform ratios, or a list of them.

    Raises
    ------
    PruningError
        If it is anything else, or a ratio is not in (0, 1].
    """
    if isinstance(ladder, Sequence) and not isinstance(ladder, str):
        for ratio in ladder:
            checked_ratio("ladder", ratio)
    else:
        checked_number("ladder", ladder, least=0)


def checked_objectives(objectives: Any) -> None:
    """Check that `objectives` is a list of different keys of `OBJECTIVES`.

    Raises
    ------
    PruningError
        If it is anything else.
    """
    if isinstance(objectives, str) or not isinstance(objectives, Sequence) or not objectives:
        raise PruningError(f"objectives: {objectives!r}, allowed is a list of metrics: {', '.join(OBJECTIVES)}")
    for objective in objectives:
        if not isinstance(objective, str) or objective not in OBJECTIVES:
            raise unknown("objectives", objective, OBJECTIVES)
        if list(objectives).count(objective) > 1:
            raise PruningError(f"objectives: {objective!r} is named twice")
