"""Figures of finished studies: hypervolume over trials, attainment over seeds, axes, ratios, layers and rungs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.looks import Look, looks_of
from explorer.analysis.naming import axis_names
from explorer.analysis.plots.style import COLUMN, LINES, NARROW, STYLE
from explorer.analysis.stairs import reached
from explorer.search.metrics import METRICS, Metric

__all__ = [
    "attainment_figure",
    "composition_figure",
    "draw_attainment",
    "draw_composition",
    "draw_hypervolume",
    "draw_importance",
    "draw_ratios",
    "draw_rungs",
    "hypervolume_figure",
    "importance_figure",
    "ratios_figure",
    "rungs_figure",
]

# inches a row of names
_ROW = 0.15
_MOST = 20


def draw_hypervolume(bands: pd.DataFrame, ax: Axes, looks: Mapping[str, Look] | None = None) -> Axes:
    """Draw the median hypervolume of every series, and the band of its seeds.

    Parameters
    ----------
    bands
        As `explorer.analysis.studies.hypervolume_bands` returns them.
    ax
        Where.
    looks
        Of the series; by default each has one of its own.
    """
    looks = looks_of(bands["series"]) if looks is None else looks
    for name, mine in bands.groupby("series", sort=False):
        look, seeds = looks[str(name)], int(mine["seeds"].max())
        if seeds > 1:
            ax.fill_between(mine["trial"], mine["low"], mine["high"], color=look.colour, alpha=0.18, lw=0)
        label = f"{name} (median of {seeds})" if seeds > 1 else str(name)
        ax.plot(mine["trial"], mine["median"], look.line, color=look.colour, lw=1.5, label=label)
    ax.set_xlabel("evaluated recipes")
    ax.set_ylabel("hypervolume")
    if len(bands):
        ax.legend(loc="lower right")
    return ax


def draw_attainment(
    stairs: Mapping[str, pd.DataFrame],
    ax: Axes,
    looks: Mapping[str, Look] | None = None,
    error: Metric = METRICS["error"],
) -> Axes:
    """Draw what half of the seeds of every series reach, in the band from what any to what all of them do.

    Parameters
    ----------
    stairs
        By series, as `explorer.analysis.studies.attainment` returns them.
    ax
        Where.
    looks
        Of the series; by default each has one of its own.
    error
        How errors are shown.
    """
    looks = looks_of(stairs) if looks is None else looks
    for name, table in stairs.items():
        look, edges = looks[name], np.unique(table["x"])
        parts = {str(level): part[["x", "y"]] for level, part in table.groupby("level", sort=False)}
        low, middle, high = (reached(parts[level], edges) * error.scale for level in ("some", "half", "all"))
        both = np.isfinite(low) & np.isfinite(high)
        ax.fill_between(edges[both], low[both], high[both], step="post", color=look.colour, alpha=0.18, lw=0)
        ax.step(edges, middle, look.line, where="post", color=look.colour, lw=1.5, label=name)
    ax.set_xlabel("multiply-adds (relative to dense)")
    ax.set_ylabel(error.label)
    if stairs:
        ax.legend(loc="upper right")
    return ax


def draw_importance(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the share of every axis in what decides the error, the most important at the top, twenty at most.

    Parameters
    ----------
    table
        ``axis`` and ``share``, as `explorer.analysis.studies.Importance` has them.
    ax
        Where.
    """
    shown = table.iloc[:_MOST]
    ax.barh(range(len(shown)), 100 * shown["share"], color=LINES[0][0], height=0.7)
    ax.set_yticks(range(len(shown)), axis_names(shown["axis"]))
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("share of what the axes decide (%)")
    return ax


def draw_ratios(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what the recipes of a frontier keep: axes from top to bottom, recipes by cost from left to right.

    Parameters
    ----------
    table
        As `explorer.analysis.studies.frontier_ratios` returns it.
    ax
        Where.
    """
    axes = list(dict.fromkeys(table["axis"]))
    wide = table.set_index(["axis", "place"])["ratio"].unstack().loc[axes]  # noqa: PD010
    ax.imshow(wide, vmin=0, vmax=1, cmap="viridis", aspect="auto", interpolation="nearest")
    ax.set_yticks(range(len(axes)), axis_names(axes))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("recipes of the frontier, cheapest first")
    return ax


def draw_composition(table: pd.DataFrame, ax: Axes) -> Axes:
    """Draw the outputs that a recipe keeps of every layer, in front of the dense network's; patterns are hatched.

    Parameters
    ----------
    table
        As `explorer.analysis.studies.composition` returns it.
    ax
        Where.
    """
    places, kept = range(len(table)), table["kept"] / table["dense"]
    ax.barh(places, 1, color="#E4E8EC", height=0.75)
    for place, (part, share) in enumerate(zip(kept, table["share"], strict=True)):
        face, hatch = (LINES[0][0], "") if share in (0, 1) else ("white", "////")
        ax.barh(place, part, height=0.75, lw=0.6, facecolor=face, edgecolor=LINES[0][0], hatch=hatch)
    for place, (_, row) in enumerate(table.iterrows()):
        pattern = row["granularity"].split(" + ")[-1] if 0 < row["share"] < 1 else ""
        text = "dropped" if not row["kept"] else f"{row['kept']} of {row['dense']}{f', {pattern}' if pattern else ''}"
        ax.text(1.02, place, text, va="center", fontsize=6)
    ax.set_yticks(places, axis_names(table["layer"]))
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.grid(False)
    ax.set_xlabel("outputs kept (share)")
    return ax


def draw_rungs(pairs: pd.DataFrame, ax: Axes, error: Metric = METRICS["error"]) -> Axes:
    """Draw the errors at a rung and at the next.

    Parameters
    ----------
    pairs
        As `explorer.analysis.studies.rung_pairs` returns them.
    ax
        Where.
    error
        How errors are shown.
    """
    looks = looks_of(pairs["rungs"])
    for rungs, mine in pairs.groupby("rungs", sort=False):
        look = looks[str(rungs)]
        x, y = mine["lower"] * error.scale, mine["higher"] * error.scale
        ax.plot(x, y, look.marker, color=look.colour, ms=4, alpha=0.7, label=f"rungs {rungs}")
    ax.set_xlabel(f"{error.label}, lower rung")
    ax.set_ylabel("next rung")
    if len(pairs):
        ax.legend(loc="upper left")
    return ax


def hypervolume_figure(bands: pd.DataFrame, *, title: str = "") -> Figure:
    """Return the figure of the hypervolume over the trials, see `draw_hypervolume`."""
    return _column(lambda ax: draw_hypervolume(bands, ax), 2.5, title)


def attainment_figure(
    stairs: Mapping[str, pd.DataFrame], *, error: Metric = METRICS["error"], title: str = ""
) -> Figure:
    """Return the figure of what seeds attain, see `draw_attainment`."""
    return _column(lambda ax: draw_attainment(stairs, ax, error=error), 2.5, title)


def importance_figure(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Return the figure of which axes decide the error, see `draw_importance`."""
    return _column(lambda ax: draw_importance(table, ax), 0.8 + _ROW * min(_MOST, max(3, len(table))), title)


def ratios_figure(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Return the heat map of what the recipes of a frontier keep, see `draw_ratios`."""
    figure = _column(lambda ax: draw_ratios(table, ax), 0.9 + _ROW * max(3, table["axis"].nunique()), title)
    with mpl.rc_context(STYLE | NARROW):
        figure.colorbar(figure.axes[0].images[0], ax=figure.axes[0], aspect=30, pad=0.02, label="ratio kept")
    return figure


def composition_figure(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Return the figure of what a sub-network keeps layer by layer, see `draw_composition`."""
    return _column(lambda ax: draw_composition(table, ax), 0.7 + _ROW * max(3, len(table)), title)


def rungs_figure(pairs: pd.DataFrame, *, error: Metric = METRICS["error"], title: str = "") -> Figure:
    """Return the figure of the errors at two rungs, see `draw_rungs`."""
    return _column(lambda ax: draw_rungs(pairs, ax, error), 2.5, title)


def _column(draw: Callable[[Axes], Axes], height: float, title: str) -> Figure:
    with mpl.rc_context(STYLE | NARROW):
        figure = Figure(figsize=(COLUMN, height), layout="constrained")
        draw(figure.add_subplot())
        figure.suptitle(title, x=0.01, ha="left", fontsize=NARROW["axes.titlesize"])
    return figure
