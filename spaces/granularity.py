"""The shapes of what is removed, and the ratios each of them allows."""

from __future__ import annotations

import math

from spaces.errors import PruningError

__all__ = ["checked_ratio", "kept_steps"]


def checked_ratio(key: str, ratio: object) -> float:
    """Return `ratio` as a float after checking that it is a share kept in (0, 1].

    Raises
    ------
    PruningError
        If `ratio` is not a number, not finite, 0 or less, or above 1.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise PruningError(f"{key}: ratio {ratio!r} is not a share kept, allowed is 0 < ratio <= 1")
    return float(ratio)


def kept_steps(ratio: float, steps: int) -> int:
    """Return how many of `steps` removable steps of a channel unit a `filter` ratio keeps, at least one.

    ``max(1, floor(ratio * steps + .5))``: DESIGN.md's rule with ``steps = channels / step``.
    """
    return max(1, math.floor(ratio * steps + 0.5))
