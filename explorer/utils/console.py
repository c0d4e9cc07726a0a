"""What a person sees while a run goes on and when it ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from explorer.search.metrics import Metric

__all__ = ["complain", "console", "frontier_view", "progress"]

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


def frontier_view(front: pd.DataFrame, dense: Mapping[str, float], error: Metric) -> Table:
    """Return the frontier as a table to print, the dense network last; `error` says how errors are shown."""
    table = Table(title="frontier", title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    latencies = {key: header for key, header in _LATENCIES.items() if key in front}
    headers = [
        "trial",
        error.label.removeprefix("validation "),
        "± s.e.",
        "FLOPs M",
        "ratio",
        "params k",
        "ratio",
        "KiB",
        *latencies.values(),
    ]
    for header in headers:
        table.add_column(header, justify="right")
    # what all points have in common needs no column
    named = len(set(front.get("granularity", ()))) > 1
    if named:
        table.add_column("granularity")
    for _, row in front.iterrows():
        cells = [str(row["trial"]), *_cells(row, error)]
        cells += ["" if pd.isna(row[key]) else f"{row[key]:.2f}" for key in latencies]
        table.add_row(*cells, *([row["granularity"]] if named else []))
    table.add_section()
    ratios = {f"{cost}_ratio": 1.0 for cost in ("flops", "params")}
    table.add_row("dense", *_cells({**dense, **ratios}, error), *[""] * (len(latencies) + named))
    return table


# of one input and of a batch, each beside its ratio to the dense network's
_LATENCIES = {
    "latency_ms": "1 input ms",
    "latency_ratio": "ratio",
    "latency_batch_ms": "batch ms",
    "latency_batch_ratio": "ratio",
}


def _cells(row: Mapping[str, float] | pd.Series, error: Metric) -> list[str]:
    return [
        error.text(row["error"]),
        error.text(row["error_se"]),
        f"{row['flops'] / 1e6:.3f}",
        f"{row['flops_ratio']:.3f}",
        f"{row['params'] / 1e3:.1f}",
        f"{row['params_ratio']:.3f}",
        f"{row['bytes'] / 1024:.0f}",
    ]
