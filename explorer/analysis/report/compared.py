"""The comparison of two sets of runs as a section of the page."""

from __future__ import annotations

import math
from typing import Any

from explorer.analysis.multirun_folder import BUDGETS, error_column
from explorer.analysis.studies import Comparison

__all__ = ["comparison_section"]


def comparison_section(found: Comparison) -> dict[str, Any]:
    """Return what a comparison tells as text: ``title``, ``words``, and a table's ``columns`` and ``rows``."""
    first, second = found.names
    measures = [("hypervolume", "hypervolume"), *((f"error at {b:.0%} FLOPs", error_column(b)) for b in BUDGETS)]
    columns = ["pair", "trials"]
    for title, _ in measures:
        columns += [f"{title}, {first}", second, "difference"]
    rows = []
    for _, pair in found.pairs.iterrows():
        row = [str(pair["pair"]), str(pair["trials"])]
        for _, name in measures:
            a, b = float(pair[f"{name}_a"]), float(pair[f"{name}_b"])
            row += [_text(found, name, value) for value in (a, b, b - a)]
        rows.append(row)
    return {"title": f"{first} and {second}, compared", "words": found.words(), "columns": columns, "rows": rows}


def _text(found: Comparison, measure: str, value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if measure == "hypervolume" else found.error.text(value)
