"""Figures of axes: heat maps of ratios and of sensitivity, and bars of importance."""

from __future__ import annotations

import numpy as np
import pandas as pd
from bokeh.models import BasicTicker, ColorBar, ColumnDataSource, LinearColorMapper, LogColorMapper, LogTicker

from explorer.analysis.naming import axis_names
from explorer.analysis.report.style import Figure, base_figure, hover, safe
from explorer.search.metrics import Metric

__all__ = ["importance_drawing", "ratios_drawing", "sensitivity_drawing"]

# pixels a row, and around all of them
_ROW, _AROUND = 17, 120
_DROPPED = "#D55E00"


def ratios_drawing(table: pd.DataFrame, error: Metric) -> Figure:
    """Return the heat map of what frontier recipes keep: axes from top to bottom, recipes by cost from left to right.

    Parameters
    ----------
    table
        As `explorer.analysis.studies.frontier_ratios` returns it.
    error
        How errors are shown.
    """
    axes = _short(list(dict.fromkeys(table["axis"])))
    figure = base_figure(
        "recipes of the frontier, cheapest first", "", height=_AROUND + _ROW * len(axes), name="ratios",
        y_range=list(reversed(list(axes.values()))),
    )  # fmt: skip
    shown = table.assign(
        axis=table["axis"].map(axes), error=table["error"].map(error.text), choice=table["choice"].map(str).map(safe)
    )
    source = ColumnDataSource(
        shown[["trial", "place", "axis", "ratio", "choice", "error", "flops_ratio"]].to_dict("list")
    )
    mapper = LinearColorMapper("Viridis256", low=0, high=1)
    cells = figure.rect(
        "place", "axis", 1, 1, source=source, fill_color={"field": "ratio", "transform": mapper}, line_color=None
    )
    _bare(figure)
    figure.xaxis.ticker = BasicTicker(min_interval=1, num_minor_ticks=0)
    figure.add_layout(_bar(mapper, BasicTicker(), "ratio kept"), "above")
    rows = [
        ("trial", "@trial"),
        ("", "@axis"),
        ("keeps", "@choice"),
        ("error", "@error"),
        ("of the FLOPs", "@flops_ratio{0.000}"),
    ]
    figure.add_tools(hover(rows, [cells]))
    return figure


def sensitivity_drawing(table: pd.DataFrame) -> Figure:
    """Return the heat map of how much each choice alone changes the predictions: axes by ratios, dark for much.

    Parameters
    ----------
    table
        Columns ``layer``, ``granularity``, ``ratio`` and ``change``, as ``sensitivity.csv`` has them, a granularity.
    """
    layers = _short(list(dict.fromkeys(table["layer"].astype(str))))
    # ratios that layers realise a little differently share a column
    ratios = list(dict.fromkeys(f"{ratio:.3g}" for ratio in sorted(set(table["ratio"]), reverse=True)))
    figure = base_figure(
        "ratio kept", "", height=_AROUND + _ROW * len(layers), name="sensitivity", x_range=ratios,
        y_range=list(reversed(list(layers.values()))),
    )  # fmt: skip
    changes = table["change"].clip(lower=1e-4)
    source = ColumnDataSource(
        {
            "layer": table["layer"].astype(str).map(layers),
            "ratio": [f"{ratio:.3g}" for ratio in table["ratio"]],
            "change": changes,
            "granularity": table["granularity"].astype(str).map(safe),
        }
    )
    mapper = LogColorMapper("Viridis256", low=float(changes.min()), high=max(float(changes.max()), 1e-3))
    mapper.palette = list(reversed(mapper.palette))
    cells = figure.rect(
        "ratio", "layer", 1, 1, source=source, fill_color={"field": "change", "transform": mapper}, line_color=None
    )
    _bare(figure)
    figure.xaxis.major_label_orientation = 0.9
    figure.add_layout(_bar(mapper, LogTicker(), "change of the predictions over their variance"), "above")
    figure.add_tools(hover([("", "@layer"), ("keeps", "@ratio @granularity"), ("change", "@change{0.0000}")], [cells]))
    return figure


def importance_drawing(table: pd.DataFrame, most: int = 20) -> Figure:
    """Return the bars of the shares of axes in what decides the error, the most important at the top.

    Parameters
    ----------
    table
        ``axis`` and ``share``, as `explorer.analysis.studies.Importance` has them.
    most
        Bars.
    """
    shown = table.iloc[:most]
    names = _short(list(shown["axis"]))
    figure = base_figure(
        "share of what the axes decide (%)", "", height=90 + _ROW * len(shown), name="importance",
        y_range=list(reversed(list(names.values()))),
    )  # fmt: skip
    source = ColumnDataSource({"axis": list(names.values()), "share": np.round(100 * shown["share"].to_numpy(), 2)})
    bars = figure.hbar(y="axis", right="share", height=0.7, source=source, fill_color="#1F8FD0", line_color=None)
    figure.x_range.start = 0
    figure.ygrid.visible = False
    figure.add_tools(hover([("", "@axis"), ("share", "@share{0.0} %")], [bars]))
    return figure


def _short(labels: list[str]) -> dict[str, str]:
    """Return what labels are shown as: without the part where all have one, short, and no two alike."""
    found: dict[str, str] = {}
    for label, name in zip(labels, map(safe, axis_names(labels)), strict=True):
        short = name if len(name) <= 26 else f"…{name[-25:]}"
        while short in found.values():
            short += "\u200b"
        found[label] = short
    return found


def _bare(figure: Figure) -> None:
    figure.grid.visible = False
    figure.yaxis.major_tick_line_color = None
    figure.yaxis.major_label_text_font_size = "11px"


def _bar(mapper: LinearColorMapper | LogColorMapper, ticker: BasicTicker | LogTicker, title: str) -> ColorBar:
    return ColorBar(
        color_mapper=mapper, ticker=ticker, title=title, height=8, padding=4, title_standoff=4,
        background_fill_color=None, bar_line_color=None, title_text_font_style="normal", title_text_font_size="12px",
        major_label_text_font_size="11px", name="colours",
    )  # fmt: skip
