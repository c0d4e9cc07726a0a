"""What a benchmark found: figures as ratios, the absolute numbers beside them, and what they should be."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from explorer.utils.console import console
from explorer.utils.files import atomic
from explorer.utils.hardware import load, processor, version_of
from explorer.utils.timing import Timing
from spaces import PruningError

__all__ = ["Measured", "show", "table", "write"]

_VERSIONS = ("pruning-spaces", "torch", "numpy", "torch-pruning")


@dataclass(frozen=True)
class Measured:
    """One line of a benchmark's table.

    Attributes
    ----------
    case
        What was measured.
    other
        What it was measured against, in turns.
    value, unit
        The figure; a ratio of medians has the unit ``x``.
    at_least, at_most
        The figure to reach; None where none is set.
    ours, theirs
        Absolute times in ms; None where the figure is no timing.
    """

    case: str
    other: str
    value: float
    unit: str = "x"
    at_least: float | None = None
    at_most: float | None = None
    ours: Timing | None = None
    theirs: Timing | None = None

    @property
    def target(self) -> str:
        """The figure to reach as text, empty where none is set."""
        if self.at_least is not None:
            return f">= {self.at_least:,.10g}"
        return "" if self.at_most is None else f"<= {self.at_most:,.10g}"

    @property
    def reached(self) -> bool | None:
        """Whether the figure to reach is reached; None where none is set."""
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most


def table(figures: Sequence[Measured], config: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a figure: the figure, its target, times in ms with quartiles, threads, machine, versions."""
    rows = []
    for figure in figures:
        row: dict[str, object] = {
            "case": figure.case,
            "other": figure.other,
            "figure": figure.value,
            "unit": figure.unit,
            "target": figure.target,
            "reached": figure.reached,
        }
        for name, timing in (("ours", figure.ours), ("other", figure.theirs)):
            row[f"{name}_ms"] = timing.median if timing else None
            row[f"{name}_ms_q1"] = timing.lower if timing else None
            row[f"{name}_ms_q3"] = timing.upper if timing else None
        rows.append(row | {"threads": config["threads"], "seed": config["seed"]} | _surroundings())
    return pd.DataFrame(rows)


def write(name: str, figures: Sequence[Measured], config: Mapping[str, Any], folder: Path) -> Path:
    """Write the table to ``folder/NAME.csv`` and return the path.

    Raises
    ------
    PruningError
        If the folder cannot be written.
    """
    path = folder / f"{name}.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic(path) as temporary:
            table(figures, config).to_csv(temporary, index=False)
    except OSError as error:
        raise PruningError(f"{path}: can't be written ({error.strerror})") from None
    return path


def show(name: str, figures: Sequence[Measured]) -> None:
    """Print the figures."""
    view = Table(title=f"bench {name}", title_justify="left", header_style="bold")
    view.add_column("what")
    view.add_column("over")
    for header in ("figure", "to reach", "reached", "ms", "ms, other"):
        view.add_column(header, justify="right")
    for figure in figures:
        view.add_row(
            figure.case,
            figure.other,
            f"{figure.value:,.0f} {figure.unit}" if figure.value >= 1000 else f"{figure.value:.3g} {figure.unit}",
            figure.target,
            {True: "yes", False: "no", None: ""}[figure.reached],
            *(f"{timing.median:.4g}" if timing else "" for timing in (figure.ours, figure.theirs)),
        )
    console.print(view)


def _surroundings() -> dict[str, object]:
    return {
        "machine": processor(),
        "cores": os.cpu_count(),
        # of the last minute, the benchmark's own included
        "load": load(),
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        **{package: version_of(package) or "" for package in _VERSIONS},
    }
