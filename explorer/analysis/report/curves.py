"""Figures of curves: hypervolume over trials, attainment over seeds, errors of two rungs, distributions of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from bokeh.models import ColumnDataSource

from explorer.analysis.looks import Look
from explorer.analysis.report.style import DASHES, Figure, base_figure, hover, on_screen, safe
from explorer.analysis.stairs import reached
from explorer.search.metrics import Metric

__all__ = ["attainment_drawing", "distribution_drawing", "hypervolume_drawing", "rungs_drawing"]

Looks = Mapping[str, Look]


def hypervolume_drawing(bands: pd.DataFrame, looks: Looks, label: str) -> Figure:
    """Return the figure of the hypervolume over the trials: medians, and bands from the least to the greatest seed.

    Parameters
    ----------
    bands
        As `explorer.analysis.studies.hypervolume_bands` returns them.
    looks
        Of each series.
    label
        Of what it is the hypervolume.
    """
    figure = base_figure("evaluated recipes", f"hypervolume ({label})", name="hypervolume")
    lines = []
    for name, mine in bands.groupby("series", sort=False):
        look = looks[str(name)]
        source = ColumnDataSource(mine.assign(series=safe(str(name))).round(6).to_dict("list"))
        colour = on_screen(look.colour)
        if (mine["seeds"] > 1).any():
            figure.varea("trial", "low", "high", source=source, fill_color=colour, fill_alpha=0.18)
        lines.append(
            figure.line("trial", "median", source=source, line_color=colour, line_dash=DASHES[look.line], line_width=2)
        )
    rows = [("", "@series"), ("after", "@trial"), ("median", "@median{0.0000}"), ("seeds", "@seeds")]
    rows += [("least", "@low{0.0000}"), ("greatest", "@high{0.0000}")]
    tool = hover(rows, lines)
    tool.point_policy, tool.line_policy = "snap_to_data", "nearest"
    figure.add_tools(tool)
    return figure


def attainment_drawing(stairs: Mapping[str, pd.DataFrame], looks: Looks, x: str, error: Metric) -> Figure:
    """Return the figure of what seeds attain: a line that half of them reach, in the band from any to all of them.

    Parameters
    ----------
    stairs
        By series, as `explorer.analysis.studies.attainment` returns them.
    looks
        Of each series.
    x
        What the cost is called.
    error
        How errors are shown.
    """
    figure = base_figure(x, error.label, name="attainment")
    for name, table in stairs.items():
        look, colour = looks[name], on_screen(looks[name].colour)
        levels = {str(level): part for level, part in table.groupby("level", sort=False)}
        edges = np.unique(table["x"])
        # two ends of every step, so that bands have corners
        places = np.repeat(edges, 2)[1:]
        low, middle, high = (
            np.repeat(reached(levels[level][["x", "y"]], edges), 2)[:-1] * error.scale
            for level in ("some", "half", "all")
        )
        both = np.isfinite(low) & np.isfinite(high)
        figure.varea(x=places[both], y1=low[both], y2=high[both], fill_color=colour, fill_alpha=0.18)
        known = np.isfinite(middle)
        figure.line(places[known], middle[known], line_color=colour, line_dash=DASHES[look.line], line_width=2)
    return figure


def rungs_drawing(pairs: pd.DataFrame, error: Metric) -> Figure:
    """Return the figure of the errors at a rung and at the next, of the recipes that were evaluated at both."""
    figure = base_figure(f"{error.label}, lower rung", f"{error.label}, next rung", name="rungs", height=320)
    looks = [("#1F8FD0", "circle"), ("#D55E00", "square"), ("#009E73", "triangle"), ("#CC79A7", "diamond")]
    drawn = []
    for place, (rungs, mine) in enumerate(pairs.groupby("rungs", sort=False)):
        colour, marker = looks[place % len(looks)]
        scaled = mine.assign(
            lower=mine["lower"] * error.scale, higher=mine["higher"] * error.scale, rungs=f"rungs {rungs}"
        )
        source = ColumnDataSource(scaled.to_dict("list"))
        look = {"fill_color": colour, "line_color": colour, "fill_alpha": 0.5, "marker": marker, "size": 8}
        drawn.append(figure.scatter("lower", "higher", source=source, **look))
    figure.add_tools(
        hover([("", "@rungs"), ("trial", "@trial"), ("lower", "@lower{0.00}"), ("next", "@higher{0.00}")], drawn)
    )
    return figure


def distribution_drawing(data: pd.DataFrame, colours: Sequence[str], error: Metric, y: str) -> Figure:
    """Return the figure of distributions of errors: a stair for every population, with its 95 % band.

    Parameters
    ----------
    data
        Columns ``population``, ``error``, ``share``, ``low`` and ``high``, as the table ``edf`` of populations.
    colours
        One a population, in turn.
    error
        How errors are shown.
    y
        What the share is called.
    """
    figure = base_figure(error.label, y, name="distribution")
    lines = []
    for place, (name, mine) in enumerate(data.groupby("population", sort=False)):
        colour = on_screen(colours[place % len(colours)])
        ordered = mine.sort_values(["error", "share"])
        x = np.repeat(ordered["error"].to_numpy(dtype=float) * error.scale, 2)[1:]
        columns = {key: np.repeat(ordered[key].to_numpy(dtype=float), 2)[:-1] for key in ("share", "low", "high")}
        source = ColumnDataSource({"x": x, **columns, "population": [safe(str(name))] * len(x)})
        figure.varea("x", "low", "high", source=source, fill_color=colour, fill_alpha=0.16)
        dash = list(DASHES.values())[place % 4]
        lines.append(figure.line("x", "share", source=source, line_color=colour, line_dash=dash, line_width=2))
    tool = hover([("", "@population"), ("error", "@x{0.00}"), ("share", "@share{0.00}")], lines)
    tool.line_policy = "nearest"
    figure.add_tools(tool)
    return figure
