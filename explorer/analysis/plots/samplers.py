"""Curves of samplers: the hypervolume reached over the recipes evaluated, median and band over seeds."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import STYLE

__all__ = ["COLOURS", "draw_samplers", "median_curves", "samplers_figure"]

COLOURS: Mapping[str, tuple[str, str]] = {
    "frontier": ("#D55E00", "-"),
    "gp": ("#0072B2", "--"),
    "tpe": ("#009E73", "-."),
    "nsga2": ("#CC79A7", ":"),
    "qmc": ("#E69F00", "--"),
    "random": ("#666666", ":"),
}
"""Colour and line of the samplers: Okabe and Ito's palette, which colour-blind readers can tell apart."""


def median_curves(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the median, least and greatest hypervolume over seeds of every space, sampler and trial.

    Parameters
    ----------
    curves
        One row a trial: ``space``, ``sampler``, ``seed``, ``trial`` (from 1) and ``hypervolume``.
    """
    groups = curves.groupby(["space", "sampler", "trial"], sort=False)["hypervolume"]
    return groups.agg(median="median", low="min", high="max", seeds="size").reset_index()


def draw_samplers(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw what `median_curves` prepared of one space."""
    for sampler, mine in data.groupby("sampler", sort=False):
        colour, line = COLOURS.get(str(sampler), ("#000000", "-"))
        width = 2.2 if sampler == "frontier" else 1.4
        ax.plot(mine["trial"], mine["median"], line, color=colour, lw=width, label=str(sampler))
        ax.fill_between(mine["trial"], mine["low"], mine["high"], color=colour, alpha=0.12, lw=0)
    ax.set_xlabel("evaluated recipes")
    ax.set_ylabel("hypervolume (error x relative FLOPs)")
    return ax


def samplers_figure(data: pd.DataFrame) -> Figure:
    """Return the figure of the curves, one panel a space, at most three side by side."""
    spaces = list(dict.fromkeys(data["space"]))
    rows = -(-len(spaces) // 3)
    columns = -(-len(spaces) // rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6 * columns, 3.8 * rows), layout="constrained")
        panels = [*figure.subplots(rows, columns, squeeze=False).flat]
        for ax in panels[len(spaces) :]:
            ax.remove()
        panels = panels[: len(spaces)]
        lines: dict[object, Artist] = {}
        for ax, space in zip(panels, spaces, strict=True):
            mine = data[data["space"] == space]
            draw_samplers(mine, ax)
            ax.set_title(f"{space}: median, band from least to greatest", fontsize=9, loc="left")
            lines |= {line.get_label(): line for line in ax.get_lines()}
        # one for all panels: not every sampler is in each
        panels[-1].legend(handles=[*lines.values()], loc="lower right")
    return figure
