"""Unseen: the recipes inside the limits that were not evaluated yet."""

from __future__ import annotations

from collections.abc import Container, Set

import numpy as np
import numpy.typing as npt

from spaces import Budget, PruningError, PruningSpace, sample_inside

__all__ = ["Unseen"]

_ENUMERABLE = 200_000


class Unseen:
    """The unseen recipes of a space inside the limits, counted where it is small enough to list.

    Parameters
    ----------
    space, limits
        The recipes, and the costs that they must respect.
    """

    def __init__(self, space: PruningSpace, limits: Budget) -> None:
        self._space, self._limits = space, limits
        self._feasible: npt.NDArray[np.int16] | None = None
        self._unseen: set[bytes] | None = None
        if space.size <= _ENUMERABLE:
            rows = space.rows(0, space.size)
            self._feasible = rows[space.inside(rows, limits)]
            self._unseen = {row.tobytes() for row in self._feasible}

    def take(self, row: bytes) -> None:
        """Count a row as evaluated."""
        if self._unseen is not None:
            self._unseen.discard(row)

    def exhausted(self, running: Set[bytes]) -> bool:
        """Tell whether every unseen recipe is under evaluation, as far as that is known."""
        return self._unseen is not None and len(self._unseen) <= len(running) and self._unseen <= running

    def nearest(
        self, last: npt.NDArray[np.int16], seen: Container[bytes], rng: np.random.Generator
    ) -> npt.NDArray[np.int16] | None:
        """Return the unseen row inside the limits with the fewest steps from `last`; None where none is found."""
        if self._feasible is not None:
            candidates = self._feasible
        else:
            near = self._space.neighbours(last)
            further = np.concatenate([near, *(self._space.neighbours(row) for row in near)])
            try:
                drawn = sample_inside(self._space, 256, rng, budget=self._limits, max_draws=1 << 20).rows
            except PruningError:
                drawn = further[:0]
            candidates = np.concatenate([further[self._space.inside(further, self._limits)], drawn])
        unseen = np.array([row.tobytes() not in seen for row in candidates], dtype=bool)
        if not unseen.any():
            return None
        distance = np.abs(candidates[unseen].astype(int) - last).sum(1)
        return candidates[unseen][distance.argmin()]
