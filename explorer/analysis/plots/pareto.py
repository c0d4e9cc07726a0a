"""The Pareto plot: the explored networks, the uniform ratios, the frontier, the budget and the dense network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import CHANCE, STYLE, captioned, near_chance
from explorer.analysis.stairs import stair
from explorer.analysis.tables import Scale, frontier_table
from explorer.search.metrics import METRICS, Metric

__all__ = ["BASELINES", "COLOURS", "draw_pareto", "pareto_data", "pareto_figure"]

COLOURS = {"search": "#56B4E9", "ladder": "#E69F00", "frontier": "#0072B2", "dense": "#000000", "budget": "#D55E00"}
"""Okabe and Ito's palette, which colour-blind readers can tell apart."""


BASELINES: Mapping[str, tuple[str, str]] = {
    "uniform": ("#CC79A7", "^"),
    "global": ("#D55E00", "D"),
    "lamp": ("#009E73", "v"),
    "erk": ("#666666", "P"),
    "threshold": ("#F0E442", "s"),
    "knapsack": ("#000000", "X"),
}
"""Colour and marker of the baselines, by allocation."""

# so many times the least of the errors near chance: a log-likelihood has no bound
_FAR = 1.5

Bounds = Sequence[tuple[str, float, float]]
"""Metric, least and most, as `spaces.Budget.absolute` gives them."""


def pareto_data(
    trials: pd.DataFrame,
    dense: Mapping[str, float],
    scale: Scale,
    x: str,
    y: str,
    baselines: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return the points of a Pareto plot, in plot units: columns x, y, y_se, kind, granularity and chance.

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
        (non-dominated at the highest rung, again), ``dense`` or for a baseline its allocation; `granularity` that of
        the trials table; `chance` whether y is that of a predictor that knows next to nothing. Points of which x or y
        was not measured are left out.
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
    trivial = scale.trivial(y)
    for table, kind in parts:
        if x not in table:
            continue
        se = table.get(f"{y}_se", np.nan)
        frames.append(
            pd.DataFrame({"x": table[x] * METRICS[x].scale, "y": table[y] * factor, "y_se": se * factor}).assign(
                kind=kind, granularity=table.get("granularity", "dense"), chance=near_chance(table[y], trivial)
            )
        )
    return pd.concat(frames, ignore_index=True).dropna(subset=["x", "y"]).reset_index(drop=True)


def _shown(key: str, scale: Scale) -> Metric:
    return scale.error if key == "error" else METRICS[key]


def draw_pareto(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what `pareto_data` prepared: points, and a stair through those of the ladder and of the frontier alike."""
    good, kinds = data[~data["chance"]], data["kind"]
    look: dict[str, Any]
    front, explored = good[good["kind"] == "frontier"], good[good["kind"] == "search"]
    # those on the frontier are hidden below it, and a legend would name what nobody sees
    seen = pd.MultiIndex.from_frame(explored[["x", "y"]]).isin(pd.MultiIndex.from_frame(front[["x", "y"]]))
    explored = explored[~seen]
    if len(explored):
        ax.scatter(explored["x"], explored["y"], s=18, color=COLOURS["search"], alpha=0.6, lw=0, label="explored")
    poor = data[data["chance"] & kinds.isin(["search", "ladder", "frontier"])]
    top = _top(data)
    inside, beyond = poor[poor["y"] <= top], poor[poor["y"] > top]
    if len(inside):
        ax.scatter(inside["x"], inside["y"], s=18, color=CHANCE, lw=0, label="near chance")
    if len(beyond):
        look = {"marker": "^", "clip_on": False, "color": CHANCE, "lw": 0}
        ax.scatter(beyond["x"], [top] * len(beyond), s=26, label="near chance, above the plot", **look)
    lower = data[kinds == "lower"]
    if len(lower):
        look = {"facecolors": "none", "edgecolors": "#999999", "lw": 0.7}
        ax.scatter(lower["x"], lower["y"], s=14, label="at a lower rung", **look)
    label: str | None = "uniform ratios"
    for _, ladder in good[good["kind"] == "ladder"].groupby("granularity"):
        _draw_stair(ladder, ax, COLOURS["ladder"], lw=1)
        ax.plot(ladder["x"], ladder["y"], "s", ms=4, color=COLOURS["ladder"], label=label, zorder=3)
        # a legend needs it once
        label = None
    if len(front):
        _draw_stair(front, ax, COLOURS["frontier"], lw=1.6)
        ax.errorbar(
            front["x"], front["y"], yerr=front["y_se"].fillna(0), fmt="o", ms=5, lw=1, color=COLOURS["frontier"],
            label="frontier (± 1 s.e.)" if front["y_se"].notna().any() else "frontier",
        )  # fmt: skip
    dense = data[kinds == "dense"]
    if len(dense):
        look = {"marker": "*", "s": 130, "color": COLOURS["dense"], "zorder": 4, "clip_on": False}
        ax.scatter(dense["x"], dense["y"], label="dense network", **look)
    for name, (colour, marker) in BASELINES.items():
        mine = data[kinds == name]
        if len(mine):
            look = {"ms": 6, "mfc": "none", "mew": 1.4, "color": colour, "zorder": 3}
            ax.plot(mine["x"], mine["y"], marker, label=f"{name} allocation", **look)
    ax.set_xlim(left=0)
    if data["y"].min() >= 0:
        ax.set_ylim(bottom=0)
    if len(beyond):
        ax.set_ylim(top=top)
    return ax


def _top(data: pd.DataFrame) -> float:
    """Return the y above which points near chance would press all others together; infinite for bounded errors."""
    good, poor = data.loc[~data["chance"], "y"], data.loc[data["chance"], "y"]
    far = len(good) and len(poor) and poor.max() > _FAR * poor.min()
    return 1.3 * float(good.max()) if far else np.inf


def _draw_stair(points: pd.DataFrame, ax: Axes, colour: str, *, lw: float) -> None:
    corners = stair(points)
    ax.step(corners["x"], corners["y"], where="post", lw=lw, color=colour)


def draw_budget(bounds: Bounds, x: str, ax: Axes) -> Axes:
    """Draw the limits on the cost `x` as lines."""
    label: str | None = "budget"
    for metric, *limits in bounds:
        for limit in limits:
            if metric == x and limit > 0:
                ax.axvline(limit * METRICS[x].scale, color=COLOURS["budget"], lw=1, ls=":", zorder=0, label=label)
                label = None
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
    bounds: Bounds = (),
    doubts: Sequence[str] = (),
) -> Figure:
    """Return the figure of `y` over the cost `x` for all trials, the frontier, the ladder and the dense network.

    `baselines` are drawn beside them, as `pareto_data` takes them; `bounds` are the budget, and `doubts` sentences
    below the figure on what makes its numbers doubtful.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        ax = figure.add_subplot()
        draw_pareto(pareto_data(trials, dense, scale, x, y, baselines), ax)
        draw_budget(bounds, x, ax)
        ax.set_xlabel(METRICS[x].label)
        ax.set_ylabel(_shown(y, scale).label)
        ax.set_title(title, fontsize=10, loc="left")
        ax.legend(loc="best")
        captioned(figure, doubts)
    return figure
