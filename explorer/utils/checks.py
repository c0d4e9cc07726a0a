"""Checks of single values, shared by the command and the Python entrance."""

from __future__ import annotations

import math
from typing import Any

from spaces import PruningError

__all__ = ["checked_number"]


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
