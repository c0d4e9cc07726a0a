"""Distributions of errors of several populations, and winners' structure beside the population's."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from explorer.analysis.plots.style import COLUMN, LINES, NARROW, STYLE
from explorer.search.metrics import METRICS, Metric

__all__ = [
    "correlation_data",
    "correlation_figure",
    "draw_correlations",
    "draw_edf",
    "draw_profile",
    "edf_data",
    "edf_figure",
    "profile_figure",
]

_MOST = 14


def edf_data(table: pd.DataFrame, error: Metric = METRICS["error"], *, normalised: bool = False) -> pd.DataFrame:
    """Return what the plot of distributions shows, in plot units: population, error, share, low, high; a step a row.

    Every population begins at its least error with a share of 0.

    Parameters
    ----------
    table
        As `explorer.analysis.populations.edf_table` returns it, of one kind or with a column ``normalised``.
    error
        How an error is shown.
    normalised
        Which kind, where the table has both.
    """
    if "normalised" in table:
        table = table[table["normalised"] == normalised]
    begin = table.groupby("population", sort=False, as_index=False)["error"].min().assign(share=0.0, low=0.0, high=0.0)
    names = {name: place for place, name in enumerate(table["population"].unique())}
    joined = pd.concat([begin, table[["population", "error", "share", "low", "high"]]], ignore_index=True)
    ordered = joined.assign(place=joined["population"].map(names)).sort_values(["place", "error", "share"])
    return ordered.drop(columns="place").assign(error=lambda t: t["error"] * error.scale).reset_index(drop=True)


def draw_edf(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw a stair for every population, with its 95 % band."""
    for (name, mine), (colour, line) in zip(data.groupby("population", sort=False), cycle(LINES), strict=False):
        ax.fill_between(mine["error"], mine["low"], mine["high"], step="post", color=colour, alpha=0.18, lw=0)
        ax.step(mine["error"], mine["share"], where="post", color=colour, ls=line, lw=1.4, label=str(name))
    ax.set_ylim(0, 1.02)
    ax.legend(loc="lower right")
    return ax


def edf_figure(
    table: pd.DataFrame, *, error: Metric = METRICS["error"], normalised: bool = False, title: str = ""
) -> Figure:
    """Return the figure of the distributions of errors, see `edf_data`."""
    with mpl.rc_context(STYLE | NARROW):
        figure = Figure(figsize=(COLUMN, 2.5), layout="constrained")
        ax = draw_edf(edf_data(table, error, normalised=normalised), figure.add_subplot())
        ax.set_xlabel(error.label)
        ax.set_ylabel("share of recipes" + (", FLOPs-normalised" if normalised else ""))
        ax.set_title(title, loc="left")
    return figure


def draw_profile(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw medians and quartiles of the ratio kept in every layer, of winners and of the population.

    Parameters
    ----------
    data
        As `explorer.analysis.populations.profile_table` returns it.
    ax
        Where.
    """
    looks = {"population": ("#999999", "-", "s"), "winners": (LINES[0][0], "-", "o")}
    for name, (colour, line, marker) in looks.items():
        mine = data[data["group"] == name].sort_values("place")
        ax.fill_between(mine["place"], mine["low"], mine["high"], color=colour, alpha=0.25, lw=0)
        ax.plot(mine["place"], mine["median"], line, marker=marker, ms=3, lw=1.2, color=colour, label=name)
    layers = data.drop_duplicates("place").sort_values("place")
    # every second name, or fewer, where there is no room for all
    every = -(-len(layers) // _MOST)
    ax.set_xticks(layers["place"][::every], layers["layer"][::every], rotation=60, ha="right", rotation_mode="anchor")
    ax.set_ylim(0, 1.05)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0)
    return ax


def profile_figure(data: pd.DataFrame, *, title: str = "") -> Figure:
    """Return the figure of how much winners keep layer by layer, beside the population, see `draw_profile`."""
    with mpl.rc_context(STYLE | NARROW):
        figure = Figure(figsize=(COLUMN, 2.9), layout="constrained")
        ax = draw_profile(data, figure.add_subplot())
        ax.set_ylabel("ratio kept (median, quartiles)")
        figure.suptitle(title, x=0.01, ha="left", fontsize=NARROW["axes.titlesize"])
    return figure


def correlation_data(table: pd.DataFrame, which: str = "kendall", most: int = 20) -> pd.DataFrame:
    """Return what the bars of rank correlations show: statistic, value, low, high and sure, strongest first.

    `sure` is whether the corrected p-value is below .05. What has no correlation is left out.

    Parameters
    ----------
    table
        As `explorer.analysis.populations.rank_correlations` returns it.
    which
        ``kendall`` or ``spearman``.
    most
        How many bars at most.
    """
    found = table.dropna(subset=[which])
    found = found.reindex(found[which].abs().sort_values(ascending=False, kind="stable").index)[:most]
    return pd.DataFrame(
        {
            "statistic": found["statistic"],
            "value": found[which],
            "low": found[f"{which}_low"],
            "high": found[f"{which}_high"],
            "sure": found["p_corrected"] < 0.05,
        }
    ).reset_index(drop=True)


def draw_correlations(data: pd.DataFrame, ax: Axes) -> Axes:
    """Draw a bar with its interval for every statistic; those that are not sure are hollow."""
    places = range(len(data))
    faces = [LINES[0][0] if sure else "white" for sure in data["sure"]]
    ax.barh(places, data["value"], color=faces, edgecolor=LINES[0][0], lw=0.8, height=0.65)
    spread = [data["value"] - data["low"], data["high"] - data["value"]]
    ax.errorbar(data["value"], places, xerr=spread, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(places, [str(name).removeprefix("channels.") for name in data["statistic"]])
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    return ax


def correlation_figure(
    table: pd.DataFrame, *, which: str = "kendall", target: str = "error", title: str = "", most: int = 20
) -> Figure:
    """Return the figure of rank correlations with `target`, see `correlation_data`."""
    names: Mapping[str, str] = {"kendall": "Kendall's tau", "spearman": "Spearman's rho"}
    data = correlation_data(table, which, most)
    with mpl.rc_context(STYLE | NARROW):
        figure = Figure(figsize=(COLUMN, 0.8 + 0.17 * max(3, len(data))), layout="constrained")
        ax = draw_correlations(data, figure.add_subplot())
        ax.set_xlabel(f"{names[which]} with {target} (hollow: not sure)")
        ax.set_title(title, loc="left")
    return figure
