"""What a person sees while a run goes on and when it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["console", "frontier_view", "progress"]

# a file or a pipe has no width of its own, and wrapped tables are hard to read there
console = Console(width=None if sys.stdout.isatty() else 120)


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


def frontier_view(front: pd.DataFrame, dense: Mapping[str, float]) -> Table:
    """Return the frontier as a table to print, the dense network last."""
    latency = "latency_ms" in front
    table = Table(title="frontier", title_justify="left", header_style="bold")
    headers = ["trial", "error %", "± s.e.", "FLOPs M", "ratio", "params k", "ratio", "KiB"]
    for header in headers + (["batch-1 ms", "dense ms"] if latency else []):
        table.add_column(header, justify="right")
    for _, row in front.iterrows():
        cells = [str(row["trial"]), *_cells(row)]
        if latency:
            cells += [f"{row['latency_ms']:.2f}", f"{row['latency_dense_ms']:.2f}"]
        table.add_row(*cells)
    table.add_section()
    ratios = {f"{cost}_ratio": 1.0 for cost in ("flops", "params")}
    table.add_row("dense", *_cells({**dense, **ratios}), *(["", ""] if latency else []))
    return table


def _cells(row: Mapping[str, float] | pd.Series) -> list[str]:
    return [
        f"{100 * row['error']:.2f}",
        f"{100 * row['error_se']:.2f}",
        f"{row['flops'] / 1e6:.3f}",
        f"{row['flops_ratio']:.3f}",
        f"{row['params'] / 1e3:.1f}",
        f"{row['params_ratio']:.3f}",
        f"{row['bytes'] / 1024:.0f}",
    ]
