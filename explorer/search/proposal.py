"""Proposal: a recipe that was proposed and what came of it, the record that a finished trial keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Proposal"]


@dataclass(frozen=True, eq=False)
class Proposal:
    """A recipe at a rung, who proposed it, and the outcome.

    Attributes
    ----------
    row
        The recipe.
    source
        Who proposed it: ``ladder``, ``search`` (the sampler), ``nearest`` or ``promotion``.
    outcome
        ``COMPLETE`` and ``FAIL`` are evaluations; ``OVER_LATENCY`` was measured too slow before its error was;
        ``OUTSIDE`` the limits and ``DUPLICATE`` (of a recipe that is known, or under evaluation elsewhere) cost
        nothing.
    rung
        Where it was evaluated, from 0.
    values
        The objectives' values; None where there are none.
    metrics
        What was measured.
    reason
        Why an evaluation failed.
    excess
        By how much it lies outside the limits, relative to the dense network, by metric.
    duplicate_of
        The trial that has the recipe, or ``dense``.
    """

    row: npt.NDArray[np.int16]
    source: str
    outcome: str
    rung: int = 0
    values: Sequence[float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    excess: Mapping[str, float] = field(default_factory=dict)
    duplicate_of: int | str | None = None

    @property
    def evaluated(self) -> bool:
        """Whether it counts as a trial: its error was measured, or that failed."""
        return self.outcome in ("COMPLETE", "FAIL")

    @property
    def state(self) -> str:
        """The state in which Optuna's trial ends."""
        if self.values is not None:
            return "COMPLETE"
        return "PRUNED" if self.excess else "FAIL"

    def to_dict(self) -> dict[str, Any]:
        """Return the proposal as a trial stores it, as JSON; what is empty is left out."""
        plain = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        kept = {name: value for name, value in plain.items() if name != "row" and value is not None and value != {}}
        return {"row": self.row.tolist(), **kept}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Proposal:
        """Return the proposal that `to_dict` gave."""
        return cls(**{**stored, "row": np.array(stored["row"], dtype=np.int16)})
