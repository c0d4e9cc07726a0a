"""Granularities side by side: what is theory, multiply-adds, next to what this machine makes of it, latency."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import STYLE
from explorer.search.metrics import METRICS, Metric

__all__ = ["LOOKS", "comparison_data", "comparison_figure", "draw_comparison"]

# Okabe and Ito's colours; where two granularities share one, marker and line tell them apart
LOOKS: Mapping[str, tuple[str, str, str]] = {
    "element": ("#0072B2", "o", "-"),
    "vector": ("#56B4E9", "v", "-"),
    "kernel": ("#CC79A7", "D", "-"),
    "tile_element": ("#009E73", "P", "-"),
    "tile": ("#009E73", "s", "--"),
    "tile_vector": ("#E69F00", "^", "--"),
    "block": ("#D55E00", "X", "-"),
    "filter": ("#666666", "h", "-"),
    "layer": ("#000000", "*", ":"),
    "mixed": ("#999999", "o", "-."),
}
"""Colour, marker and line of every granularity."""
# whose looks criteria take in turn
_DISTINCT = ("element", "tile_element", "block", "vector", "tile_vector", "kernel", "layer", "mixed")

_PANELS = (
    ("flops_ratio", "multiply-adds (relative to dense)"),
    ("latency_batch_ratio", "latency of a batch (relative to dense)"),
)


def comparison_data(points: pd.DataFrame) -> pd.DataFrame:
    """Return what the comparison shows: job, series, cost, x, error and order, one row a point and cost.

    `series` is the granularity, or the criterion where these differ and all points have one granularity.

    `order` is that of multiply-adds, in which a line connects the points of either cost.

    Parameters
    ----------
    points
        Rows with ``granularity``, ``error``, ``flops_ratio`` and, if there, ``latency_batch_ratio``, ``job`` and
        ``criterion``.
    """
    alike = len(set(points["granularity"])) == 1 and len(set(points.get("criterion", ()))) > 1
    series, frames = points["criterion" if alike else "granularity"], []
    for cost, _ in _PANELS:
        if cost in points:
            part = pd.DataFrame({"series": series, "x": points[cost], "order": points["flops_ratio"]})
            frames.append(part.assign(job=points.get("job", ""), error=points["error"], cost=cost).dropna())
    return pd.concat(frames, ignore_index=True)


def draw_comparison(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the points of one cost, a line for every series of every job."""
    others = cycle(look for name, look in LOOKS.items() if name in _DISTINCT)
    looks = {**LOOKS, **{name: next(others) for name in dict.fromkeys(data["series"]) if name not in LOOKS}}
    for name, (colour, marker, line) in looks.items():
        for _, mine in data[data["series"] == name].sort_values("order").groupby("job"):
            ax.plot(mine["x"], mine["error"], line, marker=marker, color=colour, ms=5, lw=1, alpha=0.9, label=name)
    return ax


def comparison_figure(
    points: pd.DataFrame,
    dense_error: float,
    *,
    error: Metric = METRICS["error"],
    title: str = "",
) -> Figure:
    """Return error over multiply-adds beside error over measured latency, both relative to the dense network.

    Parameters
    ----------
    points
        As `comparison_data` takes them.
    dense_error
        The dense network's error.
    error
        How an error is shown.
    title
        Above the figure.
    """
    data = comparison_data(points)
    data["error"] *= error.scale
    dense = error.scale * dense_error
    panels = [(cost, label) for cost, label in _PANELS if (data["cost"] == cost).any()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.9 * len(panels), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (cost, label) in zip(axes, panels, strict=True):
            draw_comparison(data[data["cost"] == cost], ax)
            ax.axhline(dense, color="black", lw=1, ls=":", zorder=0)
            ax.plot(1, dense, "*", color="black", ms=11, zorder=5, clip_on=False, label="dense network")
            ax.set_xlabel(label)
            ax.set_xlim(0, 1.06 * max(1, data.loc[data["cost"] == cost, "x"].max()))
        if data["error"].min() >= 0:
            axes[0].set_ylim(bottom=0)
        axes[0].set_ylabel(error.label)
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=9)
        if title:
            figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure
