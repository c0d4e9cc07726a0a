"""The figures of populations, from the tables that their analysis left in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from bokeh.embed import json_item

from explorer.analysis.looks import LOOKS
from explorer.analysis.report.curves import distribution_drawing
from explorer.analysis.report.style import on_screen
from explorer.search.metrics import Metric

__all__ = ["population_section"]

_COLOURS = [
    LOOKS[name].colour for name in ("element", "block", "tile_element", "kernel", "tile_vector", "vector", "mixed")
]
_NEEDED = {"population", "error", "share", "low", "high"}


def population_section(folder: Path, error: Metric) -> dict[str, Any] | None:
    """Return what populations of a folder tell: ``title``, ``words``, ``legend``, ``figures`` and ``findings``.

    Parameters
    ----------
    folder
        Of a population or of a multirun of several. None where no analysis is in it, or it is damaged.
    error
        How errors are shown.
    """
    table = _table(folder / "population" / "edf.csv")
    if table is None or not set(table) >= _NEEDED or not len(table):
        return None
    names = [str(name) for name in dict.fromkeys(table["population"])]
    plain = table[~table["normalised"].astype(bool)] if "normalised" in table else table
    figures = [
        _figure("edf", "Distribution of errors", distribution_drawing(plain, _COLOURS, error, "share of recipes"))
    ]
    if "normalised" in table and table["normalised"].astype(bool).any():
        part = table[table["normalised"].astype(bool)]
        drawn = distribution_drawing(part, _COLOURS, error, "share of recipes, FLOPs-normalised")
        figures.append(_figure("edf-normalised", "The same, FLOPs-normalised", drawn))
    words = []
    for name in ("conjectures", "comparisons"):
        found = _table(folder / "population" / f"{name}.csv")
        words += [] if found is None or "words" not in found else [str(line) for line in found["words"].dropna()]
    findings = folder / "population" / "findings.md"
    return {
        "title": f"Populations: {', '.join(names)}",
        "words": words,
        "legend": [{"name": name, "colour": on_screen(_COLOURS[i % len(_COLOURS)])} for i, name in enumerate(names)],
        "figures": figures,
        "findings": findings.read_text(errors="replace") if findings.exists() else "",
    }


def _figure(key: str, title: str, drawn: Any) -> dict[str, Any]:
    return {"key": key, "title": title, "item": json_item(drawn)}


def _table(path: Path) -> pd.DataFrame | None:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError):
        return None
