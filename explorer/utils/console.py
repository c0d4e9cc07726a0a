"""What a person sees while a run goes on and when it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["complain", "console", "progress"]

# a file or a pipe has no width of its own, and wrapped tables are hard to read there
console = Console(width=None if sys.stdout.isatty() else 120)


def complain(error: Exception) -> int:
    """Print a mistake of the user's in one line, and return its exit code."""
    print(f"explore: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


@contextmanager
def progress(what: str, total: int, done: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Show a bar with the time left, from the first step on; give a function that takes what is done and a remark."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    ]
    bar = Progress(*columns, console=(screen := Console(stderr=True)), disable=not screen.is_terminal)
    task = bar.add_task(what, total=total, completed=done, remark="")

    def show(completed: int, remark: str) -> None:
        bar.start()
        bar.update(task, completed=completed, remark=remark)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()
