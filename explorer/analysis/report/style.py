"""The style of the report's figures: as they are drawn before the page's script gives them the colours of its theme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bokeh.models import HoverTool
from bokeh.plotting import figure

__all__ = ["DASHES", "SYMBOLS", "Figure", "base_figure", "hover", "on_screen", "safe", "with_style"]

Figure = figure

SYMBOLS: Mapping[str, str] = {
    **{"o": "circle", "s": "square", "D": "diamond", "^": "triangle", "v": "inverted_triangle"},
    **{"P": "plus", "X": "x", "h": "hex", "*": "star"},
}
"""Bokeh's names of matplotlib's markers."""

DASHES: Mapping[str, str] = {"-": "solid", "--": "dashed", ":": "dotted", "-.": "dashdot"}
"""Bokeh's names of matplotlib's lines."""

# dark colours are seen on white only
_ON_SCREEN = {"#000000": "#8C8C8C", "#0072B2": "#1F8FD0", "#882255": "#C2528B", "#332288": "#7A6AD8"}
# what Bokeh would read as a formula, for which it asks the network
_FORMULA = re.compile(r"\$\$|\\[()\[\]]")


def on_screen(colour: str) -> str:
    """Return a colour that is seen on a light and on a dark page alike."""
    return _ON_SCREEN.get(colour, colour)


def safe(text: str) -> str:
    """Return a text of a stranger's that a figure shows as it is: no formula in it, and no longer than a line."""
    short = text if len(text) <= 80 else f"{text[:79]}…"
    return _FORMULA.sub(lambda found: f"{found[0][0]}\u200b{found[0][1]}", short)


def base_figure(x: str, y: str, *, height: int = 340, name: str, **options: Any) -> figure:
    """Return an empty figure as wide as its place, with transparent ground and no tool that takes a finger's scroll."""
    made = figure(
        height=height,
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag=None,
        active_scroll=None,
        active_tap=None,
        toolbar_location="above",
        name=name,
        x_axis_label=safe(x),
        y_axis_label=safe(y),
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=12,
        **options,
    )
    made.toolbar.logo = None
    made.toolbar.autohide = True
    return with_style(made)


def with_style(made: figure) -> figure:
    """Give the axes and grids of a figure their style, and return it."""
    made.grid.grid_line_alpha = 0.35
    for axis in made.axis:
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = "13px"
        axis.major_label_text_font_size = "12px"
    return made


def hover(rows: list[tuple[str, str]], renderers: list[Any]) -> HoverTool:
    """Return the tool that shows columns of what is under the pointer."""
    return HoverTool(tooltips=rows, renderers=renderers, point_policy="follow_mouse")
