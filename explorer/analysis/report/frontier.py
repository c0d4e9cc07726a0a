"""The frontier's figure: empty sources that the page's script fills for the axes that are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import BasicTickFormatter, ColumnDataSource, FixedTicker, LogAxis, Span, TapTool, Whisker

from explorer.analysis.report.style import Figure, base_figure, hover, with_style

__all__ = ["frontier_figure"]

# what the script writes for every point, as text where it is shown
_POINT = ("x", "y", "low", "high", "i", "name", "error", "flops", "params", "latency")
_ROWS = [
    ("", "@name"),
    ("error", "@error"),
    ("multiply-adds", "@flops"),
    ("parameters", "@params"),
    ("latency", "@latency"),
]


def frontier_figure(series: Sequence[Mapping[str, Any]], *, x: str, y: str) -> Figure:
    """Return the figure of error over a cost: for every series the explored points, a stair and the points on it.

    Parameters
    ----------
    series
        As the payload has them: ``colour`` and ``marker``.
    x, y
        Labels of the axes as they are drawn first.
    """
    figure = base_figure(x, y, height=540, name="frontier", x_range=(0.0, 1.0), y_range=(0.0, 1.0))
    # a second pair of axes for logarithms, of which the script shows one
    figure.add_layout(_log_axis(x, "x-log"), "below")
    figure.add_layout(_log_axis(y, "y-log"), "left")
    figure.xaxis[0].name, figure.yaxis[0].name = "x-linear", "y-linear"
    figure.xgrid.name, figure.ygrid.name = "x-grid", "y-grid"
    with_style(figure)
    touched = []
    for place, one in enumerate(series):
        cloud, line, front = (_source(f"{part}-{place}") for part in ("cloud", "line", "front"))
        look = {"fill_color": one["colour"], "line_color": one["colour"]}
        faint = {
            "fill_alpha": 0.28,
            "line_alpha": 0.28,
            "nonselection_fill_alpha": 0.28,
            "nonselection_line_alpha": 0.28,
        }
        strong = {"fill_alpha": 0.9, "nonselection_fill_alpha": 0.9, "nonselection_line_alpha": 1}
        touched.append(figure.scatter("x", "y", source=cloud, size=6, marker=one["marker"], **look, **faint))
        figure.line("x", "y", source=line, line_color=one["colour"], line_width=1.5, line_alpha=0.8)
        error = Whisker(base="x", upper="high", lower="low", source=front, line_color=one["colour"], line_alpha=0.7)
        error.upper_head = error.lower_head = None
        figure.add_layout(error)
        touched.append(figure.scatter("x", "y", source=front, size=9, marker=one["marker"], **look, **strong))
    others = _source("baselines")
    touched.append(
        figure.scatter("x", "y", source=others, size=11, marker="diamond_cross", line_color="#CC79A7", fill_color=None)
    )
    dense = _source("dense")
    touched.append(
        figure.scatter("x", "y", source=dense, size=16, marker="star", line_color="#888888", fill_color="#888888")
    )
    chosen = ColumnDataSource({"x": [], "y": []}, name="chosen")
    figure.scatter("x", "y", source=chosen, size=19, fill_color=None, line_color="#D55E00", line_width=2.5)
    figure.add_layout(
        Span(dimension="height", name="budget", line_color="#D55E00", line_dash="dotted", line_width=1.5, visible=False)
    )
    tap = TapTool(renderers=touched)
    figure.add_tools(hover(_ROWS, touched), tap)
    figure.toolbar.active_tap = tap
    return figure


def _log_axis(label: str, name: str) -> LogAxis:
    # the script knows the range and with it where ticks are useful
    return LogAxis(
        visible=False, axis_label=label, name=name, ticker=FixedTicker(ticks=[]), formatter=BasicTickFormatter()
    )


def _source(name: str) -> ColumnDataSource:
    return ColumnDataSource({column: [] for column in _POINT}, name=name)
