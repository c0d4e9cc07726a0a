"""Evaluations in the driver's own process, one after the other."""

from __future__ import annotations

from collections import deque

from explorer.search.jobs import Evaluate, Job, Result, attempt

__all__ = ["Inline"]


class Inline:
    """Evaluates while it is waited for; deterministic, and Ctrl-C passes through."""

    slots = 1

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Take a job; it is evaluated by `wait`."""
        self._jobs.append(job)

    def wait(self, timeout: float | None = None) -> list[tuple[Job, Result]]:
        """Return the oldest job with its result, however long it takes; nothing where there is none."""
        return [(job, attempt(self._evaluate, job)) for job in [self._jobs.popleft()]] if self._jobs else []

    def close(self) -> None:
        """Forget the jobs that were not evaluated."""
        self._jobs.clear()
