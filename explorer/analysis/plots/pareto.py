"""The Pareto plot: what was explored, the ladder, the frontier and the dense network."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import STYLE
from explorer.analysis.tables import Scale, frontier_table
from explorer.search.metrics import METRICS, Metric

__all__ = ["BASELINES", "COLOURS", "draw_pareto", "pareto_data", "pareto_figure"]

COLOURS = {"search": "#56B4E9", "ladder": "#E69F00", "frontier": "#0072B2", "dense": "#000000"}
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


BASELINES: Mapping[str, tuple[str, str]] = {
    "uniform": ("#CC79A7", "^"),
    "global": ("#D55E00", "D"),
    "lamp": ("#009E73", "v"),
    "erk": ("#666666", "P"),
}
"""Colour and marker of the baselines, by allocation."""


def pareto_data(
    trials: pd.DataFrame,
    dense: Mapping[str, float],
    scale: Scale,
    x: str,
    y: str,
    baselines: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return what a Pareto plot shows, in plot units: columns x, y, y_se, kind and granularity.

    Parameters
    ----------
    trials
        The trials table.
    dense
        The dense network's metrics.
    scale
        The study's objectives, which decide what is on the frontier.
    x, y
        Keys of `METRICS`; how an ``error`` is shown the scale says.
    baselines
        The table of `explorer.runs.baselines`, of which those are shown whose x was measured.

    Returns
    -------
    pandas.DataFrame
        `kind` is ``search``, ``ladder``, ``lower`` (measured at a lower rung than others), ``frontier``
        (non-dominated, again), ``dense`` or for a baseline its allocation; `granularity` that of the trials table.
    """
    finished = trials[trials["state"] == "COMPLETE"]
    kinds = finished["source"].where(finished["source"] == "ladder", "search")
    if len(finished) and "rung" in finished:
        # errors of other rungs are no ladder
        kinds = kinds.where(finished["rung"] == finished["rung"].max(), "lower")
    parts = [(finished, kinds), (frontier_table(trials, scale), "frontier"), (pd.DataFrame([dense]), "dense")]
    if baselines is not None and x in baselines:
        measured = baselines[baselines["state"] == "COMPLETE"]
        parts.append((measured, measured["allocation"]))
    frames, factor = [], _shown(y, scale).scale
    for table, kind in parts:
        se = table.get(f"{y}_se", np.nan)
        frames.append(
            pd.DataFrame({"x": table[x] * METRICS[x].scale, "y": table[y] * factor, "y_se": se * factor}).assign(
                kind=kind, granularity=table.get("granularity", "dense")
            )
        )
    return pd.concat(frames, ignore_index=True)


def _shown(key: str, scale: Scale) -> Metric:
    return scale.error if key == "error" else METRICS[key]


def draw_pareto(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what `pareto_data` prepared."""
    search, ladder = (data[data["kind"] == kind] for kind in ("search", "ladder"))
    front = data[data["kind"] == "frontier"].sort_values("x")
    dense = data[data["kind"] == "dense"]
    ax.scatter(search["x"], search["y"], s=18, color=COLOURS["search"], alpha=0.6, lw=0, label="explored")
    lower = data[data["kind"] == "lower"]
    if len(lower):
        ax.scatter(
            lower["x"], lower["y"], s=14, facecolors="none", edgecolors="#999999", lw=0.7, label="at a lower rung"
        )
    label = "uniform ratios"
    for _, rungs in ladder.sort_values("x").groupby("granularity"):
        ax.plot(rungs["x"], rungs["y"], "--s", ms=4, lw=1, color=COLOURS["ladder"], label=label)
        label = "_a legend needs it once"
    if len(front):
        # a stair: between two points of the front only the cheaper is known to be reached
        end = max(float(data["x"].max()), float(front["x"].iloc[-1]))
        ax.step([*front["x"], end], [*front["y"], front["y"].iloc[-1]], where="post", lw=1.6, color=COLOURS["frontier"])
        ax.errorbar(
            front["x"], front["y"], yerr=front["y_se"].fillna(0), fmt="o", ms=5, lw=1, color=COLOURS["frontier"],
            label="frontier (± 1 s.e.)" if front["y_se"].notna().any() else "frontier",
        )  # fmt: skip
    ax.scatter(
        dense["x"],
        dense["y"],
        marker="*",
        s=130,
        color=COLOURS["dense"],
        zorder=4,
        label="dense network",
        clip_on=False,
    )
    for name, (colour, marker) in BASELINES.items():
        mine = data[data["kind"] == name]
        if len(mine):
            ax.plot(
                mine["x"],
                mine["y"],
                marker,
                ms=6,
                mfc="none",
                mew=1.4,
                color=colour,
                zorder=3,
                label=f"{name} allocation",
            )
    ax.set_xlim(left=0)
    if data["y"].min() >= 0:
        ax.set_ylim(bottom=0)
    ax.legend(loc="best")
    return ax


def pareto_figure(
    trials: pd.DataFrame,
    dense: Mapping[str, float],
    scale: Scale,
    *,
    x: str,
    y: str = "error",
    title: str = "",
    baselines: pd.DataFrame | None = None,
) -> Figure:
    """Return the figure of `y` over the cost `x` for all trials, the frontier, the ladder and the dense network.

    `baselines` are drawn beside them, as `pareto_data` takes them.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        ax = figure.add_subplot()
        draw_pareto(pareto_data(trials, dense, scale, x, y, baselines), ax)
        ax.set_xlabel(METRICS[x].label)
        ax.set_ylabel(_shown(y, scale).label)
        ax.set_title(title, fontsize=10, loc="left")
    return figure
