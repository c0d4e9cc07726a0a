"""Error over the FLOPs-to-parameter ratio: the fitted optimum, its interval and where the winners lie."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import COLUMN, LINES, NARROW, STYLE
from explorer.analysis.populations import Optimum, Population, winners_of
from explorer.search.metrics import METRICS, Metric

__all__ = [
    "draw_optima_by_regime",
    "draw_optimum",
    "optima_by_regime_data",
    "optima_by_regime_figure",
    "optima_figure",
    "optimum_data",
    "optimum_figure",
]

_POINTS = 101
_LABELS = {"rho": "rho: FLOPs per parameter (dense = 1)", "mcb": "FLOPs per parameter"}


Band = tuple[float, float, float]
"""Median and 95 % interval of the ratio of the best recipe of a quarter of the population."""


def optimum_data(
    population: Population,
    found: Optimum | None,
    error: Metric = METRICS["error"],
    band: Band | None = None,
) -> pd.DataFrame:
    """Return what error over the ratio shows, in plot units: kind, x and y.

    `kind` is ``recipe`` or ``winner`` for every recipe; ``curve`` for the quadratic at a recipe of average FLOPs;
    ``optimum`` for its least point, with one row each for ``low`` and ``high``, the ends of its 95 % interval. These
    last are left out where the interval is not bounded, and with the curve where nothing was fitted. A band is three
    rows ``band`` without a y, the median first.
    """
    x, y = population.table[population.ratio].to_numpy(dtype=float), population.errors * error.scale
    kinds = np.full(len(x), "recipe", dtype=object)
    kinds[winners_of(population.errors)] = "winner"
    frames = [pd.DataFrame({"kind": kinds, "x": x, "y": y})]
    if found is not None:
        at = np.exp(np.linspace(np.log(found.least), np.log(found.most), _POINTS))
        frames.append(pd.DataFrame({"kind": "curve", "x": at, "y": _curve(found, at) * error.scale}))
        if np.isfinite(found.high):
            ends = np.array([found.value, found.low, found.high])
            names = ["optimum", "low", "high"]
            frames.append(pd.DataFrame({"kind": names, "x": ends, "y": _curve(found, ends) * error.scale}))
    if band is not None:
        frames.append(pd.DataFrame({"kind": "band", "x": band, "y": np.nan}))
    return pd.concat(frames, ignore_index=True)


def _curve(found: Optimum, ratio: np.ndarray) -> np.ndarray:
    x, b = np.log(ratio) - found.centre, found.fit.coefficients
    return b[0] + b[1] * x + b[2] * x**2


def draw_optimum(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw recipes and winners, the quadratic, and the band of its optimum."""
    parts = {kind: data[data["kind"] == kind] for kind in ("recipe", "winner", "curve", "optimum", "low", "high")}
    colour, best = LINES[1][0], LINES[0][0]
    if len(parts["low"]):
        ax.axvspan(parts["low"]["x"].item(), parts["high"]["x"].item(), color="#F0E442", alpha=0.45, lw=0)
        ax.axvline(parts["optimum"]["x"].item(), color="black", lw=0.8, ls="--", label="optimum (95 %)")
    size = 4 if len(parts["recipe"]) > 300 else 9
    ax.scatter(parts["recipe"]["x"], parts["recipe"]["y"], s=size, color="#999999", alpha=0.6, lw=0, label="recipes")
    ax.scatter(parts["winner"]["x"], parts["winner"]["y"], s=13, color=best, marker="D", lw=0, label="winners")
    if len(parts["curve"]):
        ax.plot(parts["curve"]["x"], parts["curve"]["y"], color=colour, lw=1.6, label="quadratic")
    band = data.loc[data["kind"] == "band", "x"].tolist()
    if band:
        ax.margins(y=0.09)
        # along the bottom, wherever the errors are
        below = ax.get_xaxis_transform()
        ax.plot(band[1:], [0.03, 0.03], color=best, lw=2.2, transform=below, label="best of draws (95 %)")
        ax.plot(band[:1], [0.03], "|", color=best, ms=7, mew=1.6, transform=below)
    return ax


def optimum_figure(
    population: Population,
    found: Optimum | None,
    *,
    band: Band | None = None,
    error: Metric = METRICS["error"],
    title: str = "",
) -> Figure:
    """Return the figure of a population's error over its FLOPs-to-parameter ratio, see `optimum_data`."""
    with mpl.rc_context(STYLE | NARROW):
        figure = Figure(figsize=(COLUMN, 2.6), layout="constrained")
        ax = draw_optimum(optimum_data(population, found, error, band), figure.add_subplot())
        ax.set_xlabel(_LABELS[population.ratio])
        ax.set_ylabel(error.label)
        ax.set_title(title, loc="left")
        figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, columnspacing=0.8)
    return figure


def optima_figure(
    populations: Sequence[Population],
    optima: Sequence[Optimum | None],
    *,
    bands: Sequence[Band | None] = (),
    error: Metric = METRICS["error"],
    title: str = "",
) -> Figure:
    """Return error over the ratio for several populations side by side, such as those of several regimes."""
    with mpl.rc_context(STYLE | NARROW):
        across = min(3, len(populations))
        down = -(-len(populations) // across)
        figure = Figure(figsize=(2 * COLUMN, 0.5 + 2.1 * down), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False)
        given = list(bands) or [None] * len(populations)
        for ax, one, found, band in zip(axes.flat, populations, optima, given, strict=False):
            draw_optimum(optimum_data(one, found, error, band), ax)
            ax.set_title(one.name, loc="left")
        for ax in axes.flat[len(populations) :]:
            ax.set_axis_off()
        for ax in axes[:, 0]:
            ax.set_ylabel(error.label)
        figure.supxlabel(_LABELS[populations[0].ratio], fontsize=NARROW["axes.labelsize"])
        handles = {
            label: handle for ax in axes.flat for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=5, columnspacing=0.8)
        figure.suptitle(title, x=0.01, ha="left", fontsize=NARROW["axes.titlesize"])
    return figure


def optima_by_regime_data(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the optimum over the regime shows: series, regime, and optimum and winners with their intervals.

    Rows without a regime, or with an optimum that the data do not bound, are left out. A series is a network and space.

    Parameters
    ----------
    table
        As `explorer.analysis.populations.optimum_table` returns it.
    """
    if "regime" not in table:
        table = table.assign(regime=np.nan)
    kept = table[table["regime"].notna() & np.isfinite(table["optimum_high"])]
    parts = [kept[name].astype(str) for name in ("network", "space") if name in kept]
    series = parts[0].str.cat(parts[1:], sep=", ") if parts else pd.Series("all", index=kept.index)
    columns = [f"{name}{end}" for name in ("optimum", "winners") for end in ("", "_low", "_high")]
    return kept[["regime", *columns]].assign(series=series).sort_values(["series", "regime"]).reset_index(drop=True)


def draw_optima_by_regime(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw every series' optimal ratio over the regime, with its 95 % interval."""
    step = 0.004
    for place, (name, mine) in enumerate(data.groupby("series", sort=False)):
        colour, line = LINES[place % len(LINES)]
        spread = [mine["optimum"] - mine["optimum_low"], mine["optimum_high"] - mine["optimum"]]
        ax.errorbar(
            mine["regime"] + step * place, mine["optimum"], yerr=spread, color=colour, ls=line, marker="o", ms=4,
            lw=1.2, capsize=2, label=str(name),
        )  # fmt: skip
    ax.axhline(1, color="black", lw=0.6, ls=":")
    if len(data):
        ax.legend(loc="best")
    return ax


def optima_by_regime_figure(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Return the figure of how the optimal ratio moves with the regime, see `optima_by_regime_data`."""
    with mpl.rc_context(STYLE | NARROW):
        figure = Figure(figsize=(COLUMN, 2.4), layout="constrained")
        ax = draw_optima_by_regime(optima_by_regime_data(table), figure.add_subplot())
        ax.set_xlabel("regime (share of the FLOPs)")
        ax.set_ylabel("optimal rho (95 %)")
        ax.set_title(title, loc="left")
    return figure
