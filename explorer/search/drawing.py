"""Drawing: which recipes a population is, chosen by their costs only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.utils.checks import checked_number
from spaces import Budget, PruningError, PruningSpace, sample_population

__all__ = ["Drawing"]


@dataclass(frozen=True)
class Drawing:
    """How the recipes of a population are drawn: uniformly, and all different.

    Parameters
    ----------
    flops, tol
        The regime: FLOPs relative to the dense network, and how far from it. Without FLOPs it is the whole space.
    strata
        Into how many equal parts the range of FLOPs is divided, each of which gives equally many recipes.
    draw
        Another number draws other recipes.

    Raises
    ------
    PruningError
        If a value is out of range.
    """

    flops: float | None
    tol: float
    strata: int = 1
    draw: int = 0

    def __post_init__(self) -> None:
        checked_number("regime.flops", self.flops, least=0, whole=False, optional=True, above=True)
        checked_number("regime.tol", self.tol, least=0, whole=False)
        if self.flops is not None and self.flops > 1:
            raise PruningError(f"regime.flops: {self.flops!r}, allowed is a share above 0 and up to 1")
        checked_number("strata", self.strata, least=1)
        checked_number("draw", self.draw, least=0)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Drawing:
        """Return the drawing that a configuration describes, see conf/population.yaml.

        Raises
        ------
        PruningError
            If a value is out of range, or a key says how a space is searched, which is not done here.
        """
        for key, value, due in (
            ("trials", given["trials"], given["n"]),
            ("ladder", given["ladder"], 0),
            ("sampler", given["sampler"]["name"], "random"),
        ):
            if value != due:
                raise PruningError(f"{key}: {value!r}, a population has {due!r}: all of its n recipes are drawn")
        checked_number("n", given["n"], least=2)
        return cls(given["regime"]["flops"], given["regime"]["tol"], given["strata"], given["draw"])

    @property
    def budget(self) -> Budget:
        """The regime."""
        return Budget() if self.flops is None else Budget.regime(self.flops, self.tol)

    def rows(self, space: PruningSpace, n: int, limits: Budget) -> list[npt.NDArray[np.int16]]:
        """Return the rows of a population of n recipes inside `limits`; those of a smaller n are the first of them.

        The dense network is not among them, since it is measured anyway.

        Raises
        ------
        PruningError
            If fewer than n are inside, or they can't be drawn.
        """
        inside = limits & self.budget
        dense = np.zeros(len(space.axes), dtype=np.int16)
        also = space.is_dense(dense) and bool(space.inside(dense[None], space.constraints & inside)[0])
        rng = np.random.default_rng([self.draw, 1000])
        rows = sample_population(space, n + also, rng, budget=inside, strata=self.strata)
        return [row for row in rows if not (also and space.is_dense(row))][:n]

    @staticmethod
    def check_protocol(rungs: int, *, racing: bool) -> None:
        """Check that an evaluator measures all recipes in one way.

        Raises
        ------
        PruningError
            If it has several rungs, or may end early.
        """
        if rungs > 1:
            raise PruningError(f"evaluator.rungs: {rungs} of them, a population has one: all recipes are trained alike")
        if racing:
            raise PruningError("evaluator.racing: True, a population has False: all recipes see the same inputs")
