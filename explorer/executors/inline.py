"""Evaluations in the driver's own process, one at a time."""

from __future__ import annotations

from explorer.jobs import Evaluate, Job, Result, attempt

__all__ = ["Inline"]


class Inline:
    """Evaluates while it is waited for.

    Parameters
    ----------
    evaluate
        Measures one recipe.
    """

    slots = 1

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        """Take a job."""
        self._jobs.append(job)

    def wait(self, timeout: float | None = None) -> list[tuple[Job, Result]]:
        """Return what the next job gives, whatever it takes."""
        job = self._jobs.pop(0)
        return [(job, attempt(self._evaluate, job))]

    def close(self) -> None:
        """Forget the jobs that were not evaluated."""
        self._jobs.clear()
