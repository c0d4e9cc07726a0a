"""The one exception class of the project and the one way to word a mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["PruningError", "first_line", "unknown"]


class PruningError(Exception):
    """A mistake the user can mend: one line that names the key, the value and what is allowed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; an empty text where it has none."""
    return (str(error).splitlines() or [""])[0]


def unknown(key: str, given: object, allowed: Iterable[object]) -> PruningError:
    """Return the error for a value that is not one of `allowed`, with the nearest spelling.

    Parameters
    ----------
    key
        What was being set, as the user wrote it (``model``, ``budget.flops``).
    given
        The value received.
    allowed
        Every legal value; at most twelve are printed.

    Examples
    --------
    >>> print(unknown("sampler", "tpee", ["gp", "tpe"]))
    sampler: 'tpee' is unknown, did you mean 'tpe'? Allowed: gp, tpe
    """
    names = [str(name) for name in allowed]
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.5)
    hint = f", did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    return PruningError(f"{key}: {str(given)!r} is unknown{hint} Allowed: {listed or 'nothing'}")
