"""Pool: hands jobs to workers, starts dead ones again, and loses no job."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from multiprocessing import connection as mp
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from explorer.search.executors.payload import write
from explorer.search.executors.wire import Lobby
from explorer.search.executors.worker import Contact
from explorer.search.jobs import Evaluate, Job, Result
from spaces import PruningError

__all__ = ["Handle", "Launcher", "Pool"]

log = logging.getLogger("explorer")

# seconds between looks at workers that have not reported yet, and that ending ones are given
_LOOK = 0.2
_GRACE = 2.0
_STRIKES = 3


class Handle(Protocol):
    """A worker that was started."""

    def ended(self, patience: float = 0) -> str | None:
        """Return how it ended in a few words, waiting so many seconds for that; None if it did not."""

    def stop(self) -> None:
        """End it, whatever it does."""


class Launcher(Protocol):
    """How workers are started."""

    @property
    def places(self) -> int:
        """How many workers there should be."""

    @property
    def hosts(self) -> Sequence[str]:
        """Under which names or addresses they find the driver."""

    def launch(self, started: Sequence[tuple[int, Contact]]) -> list[Handle]:
        """Start workers, given the place, from 0, and the contact of each."""

    def close(self) -> None:
        """Let go of the machines or processes that the workers ran on."""


@dataclass(eq=False)
class _Task:
    job: Job
    losses: int = 0


@dataclass(eq=False)
class _Worker:
    place: int
    handle: Handle
    connection: Connection | None = None
    ready: bool = False
    task: _Task | None = None
    complaint: str | None = None
    # when it was first seen to have ended without having reported
    missed: float | None = None


@dataclass(eq=False)
class Pool:
    """Workers that come and go, and jobs that stay until they have a result.

    A worker that dies is started again, and its job given to another one, once. Where no worker can be started three
    times in a row, its place is given up.

    Parameters
    ----------
    launcher
        How workers are started.
    evaluate
        Measures one recipe.
    folder
        Where it is written for the workers.
    """

    launcher: Launcher
    evaluate: Evaluate
    folder: Path
    _workers: dict[int, _Worker] = field(init=False, default_factory=dict)
    _queue: deque[_Task] = field(init=False, default_factory=deque)
    _ended: list[tuple[Job, Result]] = field(init=False, default_factory=list)
    # how often in a row a worker at this place ended before it was ready
    _strikes: Counter[int] = field(init=False, default_factory=Counter)

    def __post_init__(self) -> None:
        self.slots = self.launcher.places
        self._numbers = itertools.count()
        with ExitStack() as stack:
            stack.callback(self.launcher.close)
            self._payload = write(self.evaluate, self.folder)
            stack.callback(self._payload.unlink, missing_ok=True)
            self._lobby = Lobby(self.launcher.hosts[0] if len(self.launcher.hosts) == 1 else "")
            stack.callback(self._lobby.close)
            self._start(range(self.slots))
            # of a pool that was made
            self._belongings = stack.pop_all()

    def submit(self, job: Job) -> None:
        """Take a job, and give it to a worker that is free."""
        self._queue.append(_Task(job))
        # a driver that asks for many jobs in a row also hears of workers that got ready meanwhile
        self._listen(0)
        self._assign()

    def wait(self, timeout: float | None = None) -> list[tuple[Job, Result]]:
        """Return the jobs that ended, waiting for one at least, or for so many seconds.

        Raises
        ------
        PruningError
            If no worker can be started any more.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        left = 0.0
        while True:
            self._listen(left)
            self._look_after()
            self._assign()
            if self._ended or not (self._queue or any(worker.task for worker in self._workers.values())):
                break
            left = _LOOK if deadline is None else min(_LOOK, deadline - time.monotonic())
            if left <= 0:
                break
        ended, self._ended = self._ended, []
        return ended

    def close(self) -> None:
        """End all workers, whatever they do; a moment later those are killed that did not."""
        deadline = time.monotonic() + _GRACE
        workers = list(self._workers.values())
        self._workers.clear()
        for worker in workers:
            if worker.connection is not None:
                worker.connection.close()
        for worker in workers:
            # those that have not reported yet would only find out in a while
            if worker.connection is not None:
                worker.handle.ended(max(0.0, deadline - time.monotonic()))
            worker.handle.stop()
        self._belongings.close()

    def _start(self, places: Sequence[int]) -> None:
        contacts = [
            Contact(
                self.launcher.hosts,
                self._lobby.port,
                self._lobby.key,
                next(self._numbers),
                self._payload.resolve(),
                list(sys.path),
                os.getcwd(),
            )
            for _ in places
        ]
        handles = self.launcher.launch(list(zip(places, contacts, strict=True)))
        for place, contact, handle in zip(places, contacts, handles, strict=True):
            self._workers[contact.number] = _Worker(place, handle)

    def _assign(self) -> None:
        for worker in self._workers.values():
            if not self._queue:
                return
            if worker.connection is not None and worker.ready and worker.task is None:
                worker.task = self._queue.popleft()
                # a worker that is gone is found out by reading from it
                with suppress(OSError):
                    worker.connection.send(worker.task.job)

    def _listen(self, timeout: float) -> None:
        """Take in the messages of workers, waiting so many seconds for the first."""
        talking = {worker.connection: number for number, worker in self._workers.items() if worker.connection}
        for source in mp.wait([self._lobby.bell, *talking], timeout):
            if source is self._lobby.bell:
                number, connection = self._lobby.next()
                if number in self._workers:
                    self._workers[number].connection = connection
                else:
                    connection.close()
            else:
                self._hear(talking[source])  # type: ignore[index]

    def _hear(self, number: int) -> None:
        worker = self._workers[number]
        assert worker.connection is not None
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            how = worker.handle.ended(patience=_GRACE)
            self._lose(number, worker.complaint or how or "its connection ended")
            return
        if isinstance(message, Result):
            assert worker.task is not None
            self._ended.append((worker.task.job, message))
            worker.task = None
        elif message is None:
            worker.ready = True
            self._strikes[worker.place] = 0
        else:
            worker.complaint = message

    def _look_after(self) -> None:
        """Find the workers that ended before they reported."""
        now = time.monotonic()
        for number, worker in list(self._workers.items()):
            if worker.connection is None and (how := worker.handle.ended()) is not None:
                # its last words may be on their way
                worker.missed = worker.missed or now
                if now - worker.missed > _LOOK:
                    self._lose(number, how)

    def _lose(self, number: int, how: str) -> None:
        """Give a dead worker's job to another, and start one in its place."""
        worker = self._workers.pop(number)
        if worker.connection is not None:
            worker.connection.close()
        worker.handle.stop()
        if worker.task is not None:
            worker.task.losses += 1
            log.warning("worker %d died (%s) with trial %d in hand", worker.place, how, worker.task.job.number)
            if worker.task.losses < 2:
                self._queue.appendleft(worker.task)
            else:
                self._ended.append((worker.task.job, Result(reason=f"the worker died twice ({how})")))
        if not worker.ready:
            self._strikes[worker.place] += 1
        if self._strikes[worker.place] < _STRIKES:
            self._start([worker.place])
            return
        self.slots -= 1
        if not self.slots:
            raise PruningError(f"executor: no worker can be started: {how}")
