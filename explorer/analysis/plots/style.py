"""One style for all plots, and the files they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from explorer.utils.files import atomic

__all__ = ["CHANCE", "COLUMN", "LINES", "NARROW", "STYLE", "captioned", "near_chance", "save"]

CHANCE = "#BBBBBB"
"""Colour of points that are near chance."""
# share of the error of a predictor that knows nothing
_NEAR = 0.95

STYLE = {
    "figure.dpi": 150,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "pruning-spaces",
}

COLUMN = 3.4
"""Width in inches of a column of a paper."""

NARROW: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "figure.dpi": 220,
}
"""What differs from `STYLE` in a figure of that width."""

LINES = (
    ("#0072B2", "-"),
    ("#D55E00", "--"),
    ("#009E73", "-."),
    ("#CC79A7", ":"),
    ("#E69F00", (0, (5, 1))),
    ("#56B4E9", (0, (3, 1, 1, 1))),
    ("#000000", (0, (1, 1))),
)
"""Okabe and Ito's colours, which colour-blind readers can tell apart, each with a line that tells it without colour."""


def near_chance(errors: pd.Series, trivial: float | None) -> pd.Series:
    """Return which errors are about that of a predictor that knows nothing; none where that is not known."""
    return errors >= _NEAR * trivial if trivial is not None else pd.Series(False, index=errors.index)


def captioned(figure: Figure, sentences: Sequence[str]) -> Figure:
    """Write sentences below a figure, each on lines of its own."""
    if sentences:
        wide = int(15 * figure.get_size_inches()[0])
        lines = [line for sentence in sentences for line in wrap(f"Note: {sentence}.", wide)]
        figure.supxlabel("\n".join(lines), fontsize=7, x=0.01, ha="left", color="#555555")
    return figure


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure beside `stem` as png, svg and pdf, and return the paths."""
    paths = []
    for suffix, metadata in [(".png", {}), (".svg", {"Date": None}), (".pdf", {"CreationDate": None})]:
        path = stem.with_suffix(suffix)
        options: dict[str, Any] = {"metadata": metadata} if metadata else {}
        with mpl.rc_context(STYLE), atomic(path) as temporary:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(temporary, **options)
        # laid out once: what fits as png fits in the others
        figure.set_layout_engine("none")
        paths.append(path)
    return paths
