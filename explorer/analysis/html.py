"""What notebooks show of studies and sub-networks: plain tables of HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from explorer.search.metrics import Metric

__all__ = ["candidate_html", "study_html"]

_COSTS = {
    "flops": ("FLOPs M", 1e-6),
    "params": ("parameters k", 1e-3),
    "bytes": ("KiB", 1 / 1024),
    "memory": ("with keys and values KiB", 1 / 1024),
}


def study_html(headline: str, front: pd.DataFrame, error: Metric) -> str:
    """Return a study as HTML: a line and its frontier as a table, cheapest first.

    Parameters
    ----------
    headline
        What stands above.
    front
        The frontier.
    error
        How errors are shown.
    """
    columns = {"trial": front["trial"].astype(int).astype(str), error.label: front["error"].map(error.text)}
    if "error_se" in front:
        columns["± s.e."] = front["error_se"].map(error.text)
    for key, (label, scale) in _COSTS.items():
        if key not in front:
            continue
        columns[label] = (front[key] * scale).map("{:.4g}".format)
        columns[f"{key} ratio"] = front[f"{key}_ratio"].map("{:.3f}".format)
    if "granularity" in front:
        columns["granularity"] = front["granularity"].astype(str)
    return f"<p>{escape(headline)}</p>\n{_table(pd.DataFrame(columns))}"


def candidate_html(metrics: Mapping[str, Any], composition: pd.DataFrame) -> str:
    """Return a sub-network as HTML: its error and costs, and what it keeps of every layer.

    Parameters
    ----------
    metrics
        Its row of the trials table.
    composition
        As `explorer.analysis.studies.composition` returns it.
    """
    ratios = ", ".join(f"{metrics[f'{key}_ratio']:.3f} of the {key}" for key in ("flops", "params"))
    shown = composition.assign(kept=[f"{kept} of {dense}" for kept, dense in composition[["kept", "dense"]].to_numpy()])
    return f"<p>error {metrics['error']:.4f} at {ratios}</p>\n{_table(shown[['layer', 'kept', 'granularity']])}"


def _table(table: pd.DataFrame) -> str:
    return table.to_html(index=False, border=0, escape=True)
