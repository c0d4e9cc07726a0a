"""Contestants at equal FLOPs: test error just pruned, and after training."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import LINES, STYLE
from explorer.bench.others.contest import DENSE

__all__ = ["draw_others", "others_data", "others_figure"]

_MARKS = ("o", "s", "^", "D", "v", "P", "X")


def others_data(table: pd.DataFrame, epochs: int) -> dict[str, pd.DataFrame]:
    """Return every contestant's points after so many epochs, in per cent: ``x`` the FLOPs of dense, ``y`` test error.

    Parameters
    ----------
    table
        As `explorer.bench.others.others` writes it; seeds are represented by their median.
    epochs
        Those trained.
    """
    mine = table[table["epochs"] == epochs]
    several = len(mine["space"].unique()) > 1
    found: dict[str, pd.DataFrame] = {}
    for (method, space), rows in mine.groupby(["method", "space"], sort=False):
        middle = rows.groupby("asked")[["flops", "test_error"]].median().sort_index()
        label = method if method == DENSE or not several else f"{method} ({space})"
        found[label] = pd.DataFrame({"x": 100 * middle["flops"], "y": 100 * middle["test_error"]})
    return found


def draw_others(data: Mapping[str, pd.DataFrame], title: str, ax: Axes) -> Axes:
    """Draw what `others_data` prepared."""
    styles = cycle((colour, line) for colour, line in LINES)
    for place, (label, points) in enumerate(data.items()):
        if label == DENSE:
            ax.plot(points["x"], points["y"], "*", color="black", ms=12, clip_on=False, zorder=5, label=label)
            continue
        colour, line = next(styles)
        mark = _MARKS[(place // len(LINES)) % len(_MARKS)]
        ax.plot(points["x"], points["y"], color=colour, ls=line, marker=mark, ms=4, label=label)
    ax.set_title(title)
    ax.set_xlabel("multiply-adds (% of the dense network)")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 95)
    return ax


def others_figure(table: pd.DataFrame) -> Figure:
    """Return the figure of a table: a panel for each number of epochs."""
    stages = sorted(table["epochs"].unique())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2 * len(stages) + 2.6, 4), layout="constrained")
        panels = figure.subplots(1, len(stages), squeeze=False, sharey=True)[0]
        for epochs, ax in zip(stages, panels, strict=True):
            title = "just pruned" if epochs == 0 else f"after {epochs} epochs of training"
            draw_others(others_data(table, epochs), title, ax)
        panels[0].set_ylabel("test error (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    return figure
