"""Frontiers of evaluators on test images: each seed a thin line, their median a thick one."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import STYLE
from explorer.analysis.stairs import median_stair, stair

__all__ = ["COLOURS", "draw_evaluators", "evaluators_data", "evaluators_figure"]

COLOURS: Mapping[str, tuple[str, str]] = {
    "inherit": ("#666666", "inherited, batch norm re-estimated"),
    "reconstruct": ("#0072B2", "reconstructed, no training"),
    "fine-tuned": ("#D55E00", "reconstructed, then fine-tuned"),
}
"""Colour and words of the evaluators."""

_FEW = 8


def evaluators_data(table: pd.DataFrame) -> dict[str, list[pd.DataFrame]]:
    """Return the points of each evaluator and seed, in per cent: ``x`` the FLOPs of dense, ``y`` the test error.

    Parameters
    ----------
    table
        One row a sub-network: ``evaluator``, ``seed``, ``flops`` (share of dense) and ``test_error``, which is missing
        of what is not on a frontier.
    """
    tested = table.dropna(subset="test_error")
    points = pd.DataFrame({"x": 100 * tested["flops"], "y": 100 * tested["test_error"]})
    found: dict[str, list[pd.DataFrame]] = {}
    for (evaluator, _), mine in points.groupby([tested["evaluator"], tested["seed"]], sort=False):
        found.setdefault(str(evaluator), []).append(mine)
    return found


def draw_evaluators(data: Mapping[str, list[pd.DataFrame]], dense: float, ax: Axes) -> Axes:
    """Draw what `evaluators_data` prepared, and the dense network's test error as a share."""
    for evaluator, seeds in data.items():
        colour, words = COLOURS.get(evaluator, ("#000000", evaluator))
        for points in seeds:
            corners = stair(points)
            ax.plot(corners["x"], corners["y"], drawstyle="steps-post", color=colour, lw=0.6, alpha=0.5)
        middle = median_stair(seeds)
        # corners of a median are no networks; few of them would be lost without marks
        mark = "o" if len(middle) < _FEW else ""
        ax.plot(middle["x"], middle["y"], marker=mark, drawstyle="steps-post", color=colour, lw=2, ms=4, label=words)
    ax.plot([100], [100 * dense], "*", color="black", ms=12, clip_on=False, zorder=5)
    ax.annotate("dense", (100, 100 * dense), xytext=(-4, 8), textcoords="offset points", ha="right", fontsize=9)
    ax.set_xlabel("multiply-adds (% of the dense network)")
    ax.set_ylabel("test error (%)")
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 90)
    return ax


def evaluators_figure(table: pd.DataFrame, dense: float) -> Figure:
    """Return the figure of the table that `evaluators_data` takes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4), layout="constrained")
        ax = draw_evaluators(evaluators_data(table), dense, figure.subplots())
        ax.legend(loc="upper right", title="thick: median over seeds", title_fontsize=8, fontsize=9, alignment="left")
    return figure
