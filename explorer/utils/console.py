"""What a person sees while a run goes on and when it ends."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Told", "complain", "console", "progress", "steps"]

T = TypeVar("T")

# seconds between two lines where there is no bar
_PAUSE = 30.0
# of the work that goes on, the innermost last
_bars: list[Progress] = []
# seconds after which it is told how far something is that is mostly over at once
_LONG = 3.0
steps = logging.getLogger("explorer.steps")
"""Told of each step of work that has no bar; the command prints it, in Python it is only logged."""
# a file or a pipe has no width of its own, and cut numbers cannot be read there
console = Console(width=None if sys.stdout.isatty() else 180)


def complain(error: Exception) -> int:
    """Print a mistake of the user's in one line, and return its exit code."""
    print(f"explore: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Show a bar with the time left, from the first step on; give a function that takes what is done and a remark.

    Where the screen is no terminal, as in the log of a job, long work leaves a line every now and then.
    """
    if not (screen := Console(stderr=True)).is_terminal:
        yield _lines(what, total, done)
        return
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    ]
    # work inside other work has a line below it: two displays at once would overwrite each other
    bar = _bars[-1] if _bars else Progress(*columns, console=screen)
    task = bar.add_task(what, total=total, completed=done, visible=False, remark="")
    _bars.append(bar)

    def show(completed: int, remark: str) -> None:
        bar.start()
        bar.update(task, completed=completed, visible=True, remark=remark)

    try:
        yield show
    finally:
        _bars.pop()
        if not _bars:
            bar.stop()


class Told(Generic[T]):
    """Items whose every reading shows a bar, once it takes longer than a few seconds.

    Parameters
    ----------
    what
        What is done with them.
    items
        The items.
    """

    def __init__(self, what: str, items: Sequence[T]) -> None:
        self._what, self._items = what, items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[T]:
        begin = time.monotonic()
        with progress(self._what, len(self)) as show:
            for done, item in enumerate(self._items, start=1):
                yield item
                if time.monotonic() - begin > _LONG:
                    show(done, "")


def _lines(what: str, total: int, done: int) -> Callable[[int, str], None]:
    """Return what prints how far something is and how long the rest may take, at most every half a minute."""
    begin = last = time.monotonic()

    def show(completed: int, remark: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _PAUSE or completed <= done:
            return
        last = now
        left = (now - begin) / (completed - done) * max(0, total - completed)
        said = f", {remark}" if remark else ""
        print(f"{what}: {completed} of {total}, about {left / 60:.0f} min left{said}", file=sys.stderr, flush=True)

    return show
