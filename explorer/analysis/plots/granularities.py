"""Granularities, or the jobs of a multirun, side by side: error over multiply-adds, and over measured latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.looks import LOOKS, looks_of
from explorer.analysis.plots.style import CHANCE, STYLE, captioned, near_chance
from explorer.analysis.stairs import median_stair, stair
from explorer.search.metrics import METRICS, Metric

__all__ = ["comparison_data", "comparison_figure", "draw_comparison"]

# what jobs of a multirun may differ in, besides their seeds
_CHOICES = ("space", "criterion", "evaluator", "sampler")

_PANELS = (
    ("flops_ratio", "multiply-adds (relative to dense)"),
    ("latency_batch_ratio", "latency of a batch (relative to dense)"),
)


def comparison_data(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points of the comparison: job, series, cost, x, error and differing, one row a point and cost.

    `series` is what jobs differ in, of criterion, sampler, space and evaluator; where that is nothing, which
    `differing` tells, the granularity.

    Parameters
    ----------
    points
        Rows with ``granularity``, ``error``, ``flops_ratio`` and, if there, ``latency_batch_ratio``, ``job`` and the
        job's choices, or ``series`` to say what they differ in. Of a cost that was not measured there is no row.
    """
    if "series" in points and points["series"].astype(bool).all():
        differing = ["series"]
    else:
        differing = [key for key in _CHOICES if len(set(points.get(key, ()))) > 1]
    series = points[differing].agg(" ".join, axis=1) if differing else points["granularity"]
    frames = []
    for cost, _ in _PANELS:
        if cost in points:
            part = pd.DataFrame({"series": series, "x": points[cost], "error": points["error"]})
            frames.append(part.assign(job=points.get("job", ""), cost=cost, differing=bool(differing)).dropna())
    return pd.concat(frames, ignore_index=True)


def draw_comparison(data: pd.DataFrame, ax: Axes, *, trivial: float | None = None) -> Axes:
    """Draw the points of one cost: a stair for every series of every job, of several jobs thin with their median.

    Markers are measured points; a median's corners are none, and have no marker but in the legend.

    Points near the error `trivial` of a predictor that knows nothing are grey.
    """
    names = set(data["series"])
    # of jobs each has a look of its own
    looks = LOOKS if names <= set(LOOKS) and not data["differing"].any() else looks_of(data["series"])
    points = data.rename(columns={"error": "y"})
    poor = near_chance(points["y"], trivial)
    if poor.any():
        ax.scatter(points.loc[poor, "x"], points.loc[poor, "y"], s=14, color=CHANCE, lw=0, label="near chance")
    for name, (colour, marker, line) in looks.items():
        jobs = [job for _, job in points[~poor & (points["series"] == name)].groupby("job")]
        look: dict[str, Any] = {"color": colour, "drawstyle": "steps-post"}
        for job in jobs:
            corners = stair(job)
            if len(jobs) > 1:
                ax.plot(corners["x"], corners["y"], line, lw=0.6, alpha=0.45, **look)
                ax.plot(job["x"], job["y"], marker, color=colour, ms=3, alpha=0.45, mew=0)
            else:
                ax.plot(corners["x"], corners["y"], line, lw=1, alpha=0.9, **look)
                ax.plot(job["x"], job["y"], marker, color=colour, ms=5, label=name)
        if len(jobs) > 1:
            middle = median_stair(jobs)
            label = f"{name} (median of {len(jobs)})"
            ax.plot(middle["x"], middle["y"], line, marker=marker, ms=4, markevery=[], lw=1.6, label=label, **look)
    return ax


def comparison_figure(
    points: pd.DataFrame,
    dense_error: float,
    *,
    error: Metric = METRICS["error"],
    title: str = "",
    trivial: float | None = None,
    doubts: Sequence[str] = (),
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
    trivial
        The error of a predictor that knows nothing, None where it is not known.
    doubts
        Sentences below the figure on what makes its numbers doubtful.
    """
    data = comparison_data(points)
    data["error"] *= error.scale
    dense = error.scale * dense_error
    chance = None if trivial is None else error.scale * trivial
    panels = [(cost, label) for cost, label in _PANELS if (data["cost"] == cost).any()]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 3.9 * len(panels), 4.2), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (cost, label) in zip(axes, panels, strict=True):
            draw_comparison(data[data["cost"] == cost], ax, trivial=chance)
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
        captioned(figure, [*doubts, *_unmeasured(points)])
    return figure


def _unmeasured(points: pd.DataFrame) -> list[str]:
    """Return a sentence where the latency of some points was not measured, so that its panel lacks them."""
    measured = points["latency_batch_ratio"].notna() if "latency_batch_ratio" in points else pd.Series(dtype=bool)
    return [] if measured.all() else [f"latency was measured of {measured.sum()} of {len(measured)} points"]
