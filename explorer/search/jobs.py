"""Jobs: evaluations to be made and their results, which is all that passes between a driver and its workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from spaces import PruningError, Recipe, first_line

__all__ = ["Evaluate", "Executor", "Job", "OutOfTimeError", "OverBudgetError", "Result", "attempt", "reason_of"]

# torch is not imported here: workers of evaluators that need none start in a moment


@dataclass(frozen=True)
class Job:
    """One evaluation to be made.

    Attributes
    ----------
    number
        Of the trial it belongs to.
    recipe
        What is evaluated.
    rung
        How far: 0 is the first rung, see `explorer.search.search.Search`.
    bar
        The error that a recipe of its costs must come below to be on the frontier, None where that is unknown. An
        evaluator may stop measuring once it is sure that this will not be.
    limited
        Whether a limit on the latency holds.
    deadline
        The time of day, as `time.time` tells it to every machine, after which an evaluator that can go on later stops;
        None without a limit.
    """

    number: int
    recipe: Recipe
    rung: int = 0
    bar: float | None = None
    limited: bool = True
    deadline: float | None = None

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self.deadline is not None and time.time() > self.deadline


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes
    ----------
    metrics
        What was measured; empty where the evaluation failed.
    reason
        Why it failed, in one line.
    excess
        By which share a measured latency is over the budget; the metrics are those of the latency then.
    stopped
        Whether its time was over before it ended. It counts as never begun.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str | None = None
    excess: float | None = None
    stopped: bool = False


class OutOfTimeError(Exception):
    """The time was over before an evaluation ended; what it did so far may be kept."""


class OverBudgetError(PruningError):
    """A candidate's measured latency exceeds the budget by the share `excess`; `metrics` are what was measured."""

    def __init__(self, excess: float, metrics: Mapping[str, float] | None = None) -> None:
        super().__init__(f"latency: {excess:.0%} over the budget")
        self.excess = excess
        self.metrics = metrics or {}


Evaluate = Callable[[Job], Mapping[str, float]]
"""Measures one recipe: ``error``, ``error_se``, ``loss`` ...; what it raises fails that trial."""


class Executor(Protocol):
    """Where evaluations run. Jobs may end in any order; none is forgotten."""

    @property
    def slots(self) -> int:
        """How many jobs are worked on at a time."""

    def submit(self, job: Job) -> None:
        """Take a job; there are never more than `slots` that have not ended."""

    def wait(self, timeout: float | None = None) -> list[tuple[Job, Result]]:
        """Return the jobs that ended, waiting for one at least, or for so many seconds."""

    def close(self) -> None:
        """Let go of all workers, whatever they do."""


def attempt(evaluate: Evaluate, job: Job) -> Result:
    """Return the result of an evaluation: its metrics, or the reason why it failed."""
    try:
        return Result(dict(evaluate(job)))
    except OutOfTimeError:
        return Result(stopped=True)
    except OverBudgetError as over:
        return Result(dict(over.metrics), excess=over.excess)
    except Exception as error:
        return Result(reason=reason_of(error))


def reason_of(error: Exception) -> str:
    """Return the reason of a failure in one line: the text of a PruningError; for other errors their class too."""
    line = first_line(error)
    return line if isinstance(error, PruningError) else f"{type(error).__name__}: {line}"
