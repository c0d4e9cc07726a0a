"""Sensitivity as heat maps: layers from top to bottom, ratios from left to right, one map a granularity."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from explorer.analysis.plots.style import COLUMN, NARROW, STYLE

__all__ = ["draw_sensitivity", "sensitivity_data", "sensitivity_figure"]

# inches: of a row, of a column, of a letter of the names beside a map, and of titles and ratios
_ROW, _CELL, _LETTER, _ABOVE = 0.12, 0.15, 0.05, 0.75
# below so little of the variance no map tells changes apart
_LEAST = 1e-4
# columns in a line of maps: a page's width
_ACROSS = 42
# ratios so near to each other are one column, where no layer has both
_NEAR = 0.06


def sensitivity_data(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return a map of changes for every granularity that removes something: layers by ratios, descending.

    Layers stand in the order of the table, and those of all patterns on weights in each of their maps: what a layer
    does not have is NaN. Ratios that differ a little, as the same share of unlike layers does, share a column, which
    is called after their median.

    Parameters
    ----------
    table
        As `explorer.analysis.sensitivity.sensitivity_table` makes it.
    """
    removing = table[table["ratio"] < 1]
    parts = removing["axis"].str.partition(".")[0]
    maps = {}
    for name, mine in removing.groupby("granularity", sort=False):
        layers = removing["layer"][parts == parts[mine.index[0]]].unique()
        columns = _columns(mine)
        placed = mine.assign(column=mine.index.map(columns))
        wide = placed.pivot_table(index="layer", columns="column", values="change", aggfunc="first")
        labels = placed.groupby("column")["ratio"].median()
        maps[str(name)] = wide.reindex(layers).rename(columns=labels)
    return maps


def _columns(table: pd.DataFrame) -> dict[int, int]:
    """Return the column of each row of one granularity, from the left: the greatest ratios first."""
    found: dict[int, int] = {}
    column, first, there = -1, np.inf, set[str]()
    for ratio, mine in sorted(table.groupby("ratio"), key=lambda pair: -pair[0]):
        layers = set(mine["layer"])
        if first - ratio > _NEAR or there & layers:
            column, first, there = column + 1, ratio, set()
        there |= layers
        found |= dict.fromkeys(mine.index, column)
    return found


def draw_sensitivity(data: pd.DataFrame, ax: Axes, norm: LogNorm, *, named: bool = True) -> Axes:
    """Draw one map of `sensitivity_data`, dark where a choice changes the predictions much.

    `norm` gives the colours, those of all maps of a figure; layers are `named` in the first map of a line only.
    """
    ax.imshow(data.clip(lower=norm.vmin), norm=norm, cmap="viridis_r", aspect="auto", interpolation="nearest")
    ax.set_xticks(range(data.shape[1]), [f"{ratio:.3g}".removeprefix("0") for ratio in data.columns], rotation=90)
    ax.set_yticks(range(len(data)), data.index if named else [""] * len(data))
    ax.tick_params(length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return ax


def sensitivity_figure(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Return the heat maps of a sensitivity table, see `sensitivity_data`; maps of the same layers side by side.

    Parameters
    ----------
    table
        As `explorer.analysis.sensitivity.sensitivity_table` makes it.
    title
        What the figure shows.
    """
    maps = sensitivity_data(table)
    lines: list[list[tuple[str, pd.DataFrame]]] = []
    for name, one in maps.items():
        last = lines[-1] if lines else []
        beside = bool(last) and last[0][1].index.equals(one.index)
        if beside and _wide(last) + 1 + _cells(one) <= _ACROSS:
            last.append((name, one))
        else:
            lines.append([(name, one)])
    changes = np.concatenate([one.to_numpy().ravel() for one in maps.values()])
    top = np.nanmax(changes, initial=10 * _LEAST)
    norm = LogNorm(max(_LEAST, np.nanmin(changes, initial=top / 10)), top)
    letters = max(len(str(layer)) for one in maps.values() for layer in one.index)
    widest = max(map(_wide, lines))
    heights = [_ROW * len(line[0][1]) + _ABOVE for line in lines]
    with mpl.rc_context(STYLE | NARROW | {"xtick.labelsize": 6, "ytick.labelsize": 6, "axes.titlesize": 7}):
        wide = max(COLUMN, _LETTER * letters + _CELL * widest + 0.9)
        figure = Figure(figsize=(wide, max(2.4, sum(heights) + 0.3)), layout="constrained")
        grid = figure.add_gridspec(len(lines), widest, height_ratios=heights, wspace=0)
        for across, line in enumerate(lines):
            begin = 0
            for name, one in line:
                ax = figure.add_subplot(grid[across, begin : begin + _cells(one)])
                draw_sensitivity(one, ax, norm, named=not begin)
                ax.set_title(name.replace("(", "\n(").replace(", ", ",\n"), loc="left")
                begin += _cells(one) + 1
        bar = figure.colorbar(
            mpl.cm.ScalarMappable(norm, "viridis_r"), ax=list(figure.axes), aspect=8 * sum(heights), pad=0.02
        )
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.set_label("change of the predictions / their variance", fontsize=7)
        figure.suptitle(title, x=0.01, ha="left", fontsize=8)
    return figure


def _cells(data: pd.DataFrame) -> int:
    """Return how many columns of a line a map takes: a narrow one has a title too."""
    return max(4, data.shape[1])


def _wide(line: list[tuple[str, pd.DataFrame]]) -> int:
    """Return how many columns a line of maps takes, with one between two of them."""
    return sum(_cells(one) + 1 for _, one in line) - 1
