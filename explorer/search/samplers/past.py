"""Past: the knowledge of a study that a sampler proposes from, besides Optuna's study."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces import Budget, PruningSpace

__all__ = ["Observations", "Past"]


@dataclass(frozen=True)
class Observations:
    """What evaluations measured, one entry for each that ended well.

    Attributes
    ----------
    rows
        (n, axes), the recipes. One that was evaluated at several rungs has an entry for each.
    values
        (n, objectives), minimised; costs relative to the dense network.
    error_se
        (n,), standard error of the first objective that is measured rather than counted; NaN where it is unknown.
    rungs
        (n,), the rung each was evaluated at, from 0.
    """

    rows: npt.NDArray[np.int16]
    values: npt.NDArray[np.float64]
    error_se: npt.NDArray[np.float64]
    rungs: npt.NDArray[np.intp]

    @classmethod
    def none(cls, axes: int, objectives: int) -> Observations:
        """Return no observations, of a space with so many axes."""
        rows = np.empty((0, axes), dtype=np.int16)
        return cls(rows, np.empty((0, objectives)), np.empty(0), np.empty(0, dtype=np.intp))

    @classmethod
    def joined(cls, parts: Sequence[Observations]) -> Observations:
        """Return the observations of one part after the other, of the same space; `parts` is not empty."""
        columns = [[getattr(part, field.name) for part in parts] for field in fields(cls)]
        return cls(*map(np.concatenate, columns))


@dataclass(frozen=True)
class Past:
    """What a sampler may know besides the study. Nothing of it is changed, but `memo`.

    Attributes
    ----------
    space, limits
        The recipes, and the costs that proposals must respect.
    seen
        Rows, as bytes, that were evaluated or are under evaluation: no proposal.
    seed, proposed
        The study's seed, and how many proposals were made before.
    objectives, reference
        Keys of `explorer.search.metrics.OBJECTIVES`, and the reference point of the hypervolume.
    observed
        The observations of this study.
    warm_start
        Those of earlier studies of the same network; of rung 0.
    pending
        (m, axes), rows under evaluation, and those of lower rungs that were not promoted: neither has been seen at the
        last rung, and looking for the frontier next to them again and again would not change that.
    rungs
        How many rungs there are; the frontier is sought at the last.
    features
        From (n, axes) rows to (n, features), numbers that are known without an evaluation; None where there are none.
    memo
        For the sampler's own use between proposals: whatever a function of all else here gave before.
    """

    space: PruningSpace
    limits: Budget
    seen: Collection[bytes]
    seed: int
    proposed: int
    objectives: Sequence[str]
    reference: Sequence[float]
    observed: Observations
    warm_start: Observations
    pending: npt.NDArray[np.int16]
    rungs: int = 1
    features: Callable[[npt.NDArray[np.int16]], npt.NDArray[np.float64]] | None = None
    memo: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def empty(cls, space: PruningSpace, limits: Budget, objectives: Sequence[str], *, seed: int = 0) -> Past:
        """Return the past of a study that begins."""
        none = Observations.none(len(space.axes), len(objectives))
        return cls(space, limits, (), seed, 0, objectives, [1.0] * len(objectives), none, none, none.rows)

    @property
    def random_state(self) -> int:
        """A seed of its own for each proposal."""
        return int(np.random.SeedSequence([self.seed, self.proposed]).generate_state(1)[0])
