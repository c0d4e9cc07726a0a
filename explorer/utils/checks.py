"""Checks of single values, shared by the command and the Python entrance."""

from __future__ import annotations

from typing import Any

from spaces import PruningError

__all__ = ["checked_number"]

# what seeds and sizes can be in numpy and torch, and what float32 holds
_LARGEST_WHOLE = 2**63 - 1
_LARGEST = 3.4e38
_SHOWN_BITS = 256


def checked_number(
    key: str,
    value: Any,
    *,
    least: float,
    most: float | None = None,
    whole: bool = True,
    optional: bool = False,
    above: bool = False,
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
    most
        The greatest value allowed; by default the largest of 64 bits for whole numbers, of 32 bits for others.
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
    number = isinstance(value, kinds) and not isinstance(value, bool)
    greatest = (_LARGEST_WHOLE if whole else _LARGEST) if most is None else most
    # NaN is neither
    if not number or not (value > least if above else value >= least) or not value <= greatest:
        kind = "whole number" if whole else "number"
        bound = f" and <= {greatest:.4g}" if most is not None or (number and value > greatest) else ""
        raise PruningError(f"{key}: {_shown(value)}, allowed is a {kind} {'>' if above else '>='} {least}{bound}")


def _shown(value: Any) -> str:
    """Return a value as an error shows it; Python refuses to write thousands of digits."""
    long = isinstance(value, int) and value.bit_length() > _SHOWN_BITS
    return f"a number of {value.bit_length()} bits" if long else repr(value)
