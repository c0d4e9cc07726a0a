"""How candidates are measured and trained, as sections of the configuration say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.utils.settings import flag, number, parsed, word
from spaces import PruningError

__all__ = ["EVALUATORS", "EvaluatorSettings", "FinalSettings", "SupernetSettings", "checked_rungs"]

EVALUATORS = ("inherit", "finetune", "scratch")
"""How a candidate comes by its weights."""


def checked_rungs(rungs: Any, *, start: str, key: str = "evaluator.rungs") -> None:
    """Check that rungs are ascending numbers of epochs; fresh weights (``scratch``) need one at least.

    Raises
    ------
    PruningError
        If they are anything else.
    """
    least = 1 if start == "scratch" else 0
    whole = (
        isinstance(rungs, Sequence)
        and not isinstance(rungs, str)
        and all(isinstance(epochs, int) and not isinstance(epochs, bool) and epochs >= least for epochs in rungs)
    )
    if not whole or not rungs or sorted(set(rungs)) != list(rungs):
        raise PruningError(f"{key}: {rungs!r}, allowed is an ascending list of whole numbers of epochs >= {least}")


@dataclass(frozen=True)
class EvaluatorSettings:
    """How candidates are measured.

    Parameters
    ----------
    name
        One of `EVALUATORS`.
    batch_size
        Inputs a forward pass.
    calibration_batches
        Batches for batch-norm statistics.
    images
        Validation inputs to measure on; None for all.
    racing
        Whether an evaluation may end early, see `explorer.data.racing`.
    rungs
        Epochs trained in all at each rung; 0 is no training.
    eta
        The best 1/`eta` of each rung are evaluated at the next.
    """

    name: str = word(EVALUATORS)
    batch_size: int = number(1)
    calibration_batches: int = number(1)
    images: int | None = number(1, optional=True)
    racing: bool = flag()
    rungs: tuple[int, ...] = ()
    eta: float = number(1, whole=False, above=True)

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> EvaluatorSettings:
        """Return the settings of a section of conf/evaluator.

        Raises
        ------
        PruningError
            If a key is unknown or missing, or a value is not allowed.
        """
        # without training there is one rung, and nothing to promote
        settings = parsed(cls, "evaluator", {"rungs": [0], "eta": 3, **section})
        checked_rungs(section.get("rungs", [0]), start=settings.name)
        return settings

    @property
    def trains(self) -> bool:
        """Whether candidates are trained."""
        return self.name != "inherit"


@dataclass(frozen=True)
class SupernetSettings:
    """How weights shared by all sub-networks are trained: for so many epochs, 0 for none."""

    epochs: int = number(0)
    samples: int = number(0)
    learning_rate: float = number(0, whole=False, above=True)


@dataclass(frozen=True)
class FinalSettings:
    """Which frontier points are retrained at the end: how many, in how many trainings of so many epochs."""

    points: int = number(0)
    seeds: int = number(1)
    epochs: int = number(1)
