"""One style for all plots, and the files they are written to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from explorer.utils.files import atomic

__all__ = ["STYLE", "save"]

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


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure beside `stem` as png, svg and pdf, and return the paths."""
    paths = []
    for suffix, metadata in [(".png", {}), (".svg", {"Date": None}), (".pdf", {"CreationDate": None})]:
        path = stem.with_suffix(suffix)
        options: dict[str, Any] = {"metadata": metadata} if metadata else {}
        with mpl.rc_context(STYLE), atomic(path) as temporary:
            path.parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(temporary, **options)
        paths.append(path)
    return paths
