"""Worker: evaluates the jobs that its driver sends, and ends when the driver does."""

from __future__ import annotations

import json
import os
import pickle
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from explorer.search.executors.payload import read
from explorer.search.executors.wire import connect
from explorer.search.jobs import Job, Result, attempt
from spaces import first_line

__all__ = ["START", "Contact", "Message", "greeting", "main", "serve", "threads_environment"]

# how long a worker has to end an evaluation that nobody waits for any more
_GRACE = 0.5

START = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.buffer.readline()); "
    "from explorer.search.executors.worker import main; main()"
)
"""What a fresh interpreter runs: the driver's import path comes first, so that it finds all where the driver does."""

Message = Result | str | None
"""What a worker says: the result of a job, why it cannot work, or None once it is ready."""


@dataclass(frozen=True)
class Contact:
    """What a worker is given at its start.

    Attributes
    ----------
    hosts, port, key, number
        See `explorer.search.executors.wire.connect`.
    payload
        See `explorer.search.executors.payload.read`.
    path, folder
        The driver's import path and current folder.
    """

    hosts: Sequence[str]
    port: int
    key: bytes
    number: int
    payload: Path
    path: Sequence[str]
    folder: str


def threads_environment(threads: int) -> dict[str, str]:
    """Return environment variables that limit a process to so many threads; libraries read them at their import."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    # threads that spin while they wait take the cores of other workers
    return {name: str(threads) for name in names} | {"OMP_WAIT_POLICY": "PASSIVE"}


def main() -> None:
    """Serve the driver whose contact comes by the standard input."""
    serve(pickle.load(sys.stdin.buffer))


def greeting(contact: Contact) -> bytes:
    """Return the bytes that a fresh interpreter that runs `START` reads from its standard input."""
    return json.dumps(list(contact.path)).encode() + b"\n" + pickle.dumps(contact)


def serve(contact: Contact, environment: Mapping[str, str] | None = None) -> None:
    """Evaluate jobs until the driver closes the connection or is gone.

    An evaluation that is under way then is broken off with the whole process.

    Parameters
    ----------
    contact
        Of the driver.
    environment
        Variables set before anything is imported.
    """
    os.environ.update(environment or {})
    sys.path.extend(entry for entry in contact.path if entry not in sys.path)
    if os.path.isdir(contact.folder):
        os.chdir(contact.folder)
    connection = connect(contact.hosts, contact.port, contact.key, contact.number)
    jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    done = threading.Event()
    threading.Thread(target=_receive, args=(connection, jobs, done), daemon=True).start()
    try:
        try:
            evaluate = read(contact.payload)
        except Exception as error:
            connection.send(f"it can't load the evaluation ({type(error).__name__}: {first_line(error)})")
            return
        connection.send(None)
        while (job := jobs.get()) is not None:
            connection.send(attempt(evaluate, job))
    except ConnectionError:
        pass
    finally:
        done.set()


def _receive(connection: Connection, jobs: queue.SimpleQueue[Job | None], done: threading.Event) -> None:
    """Pass jobs on, and end the process when there is nobody who would take a result."""
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):
        jobs.put(None)
        if not done.wait(_GRACE):
            os._exit(0)
