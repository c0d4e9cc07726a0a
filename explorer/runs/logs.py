"""The log of a run, and the signals that end one."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from types import FrameType

from explorer.utils.console import console, steps

__all__ = ["early_log", "interruptible", "logging_to", "steps_shown"]

log = logging.getLogger("explorer")


@contextmanager
def early_log() -> Iterator[MemoryHandler]:
    """Keep what is logged until there is a folder to log to."""
    handler = MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield handler
    finally:
        log.removeHandler(handler)


class _Shown(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        console.print(f"{record.getMessage()} ...", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def steps_shown() -> Iterator[None]:
    """Print what is being done before the search begins, as it is logged; see `explorer.utils.console.steps`."""
    handler, level = _Shown(), steps.level
    steps.addHandler(handler)
    steps.setLevel(logging.INFO)
    try:
        yield
    finally:
        steps.setLevel(level)
        steps.removeHandler(handler)


@contextmanager
def logging_to(path: Path, early: MemoryHandler) -> Iterator[None]:
    """Log to a file, beginning with what was kept."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    early.setTarget(handler)
    early.flush()
    log.removeHandler(early)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a termination signal end the run as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
