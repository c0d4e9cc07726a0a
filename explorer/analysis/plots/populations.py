"""The figures of an analysis of populations, by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from explorer.analysis.plots.distributions import correlation_figure, edf_figure, profile_figure
from explorer.analysis.plots.optima import (
    Band,
    optima_by_regime_data,
    optima_by_regime_figure,
    optima_figure,
    optimum_figure,
)
from explorer.analysis.populations import Analysis, layer_ratios, profile_table, winners_of
from explorer.search.metrics import METRICS, Metric

__all__ = ["population_figures"]


def population_figures(analysis: Analysis, error: Metric = METRICS["error"]) -> dict[str, Figure]:
    """Return the figures of populations: distributions, optima, and for each the winners' profile and correlations.

    Figures that would show nothing are left out: profiles of networks of fewer than three layers, optima by regime of
    one regime, FLOPs-normalised distributions of one population.
    """
    tables = analysis.tables
    figures: dict[str, Figure] = {}
    groups = tables["summary"].groupby(_places(tables["summary"]), sort=False)["population"].apply(list)
    for place, names in groups.items():
        part = tables["edf"][tables["edf"]["population"].isin(names)]
        suffix = f"-{_stem(str(place))}" if len(groups) > 1 else ""
        figures[f"edf{suffix}"] = edf_figure(part, error=error, title=str(place).replace(" ", ", regime "))
        if part["normalised"].any():
            figures[f"edf-normalised{suffix}"] = edf_figure(
                part, error=error, normalised=True, title=str(place).replace(" ", ", regime ")
            )
    optima = [analysis.optima.get(one.name) for one in analysis.populations]
    bands = [_band(tables["bands"], one.name, one.ratio) for one in analysis.populations]
    if len(analysis.populations) > 1:
        figures["ratios"] = optima_figure(analysis.populations, optima, bands=bands, error=error)
    if "optima" in tables and len(set(optima_by_regime_data(tables["optima"])["regime"])) > 1:
        figures["optima"] = optima_by_regime_figure(tables["optima"])
    for one, found, band in zip(analysis.populations, optima, bands, strict=True):
        name = _stem(one.name)
        figures[f"ratio-{name}"] = optimum_figure(one, found, band=band, error=error, title=one.name)
        if layer_ratios(one.table).shape[1] >= 3:
            profile = profile_table(one, winners_of(one.errors))
            figures[f"profile-{name}"] = profile_figure(profile, title=one.name)
        mine = tables["correlations"][tables["correlations"]["population"] == one.name]
        if mine["kendall"].notna().any():
            figures[f"correlations-{name}"] = correlation_figure(mine, title=one.name)
        if "proxies" in tables and (tables["proxies"]["population"] == one.name).any():
            mine = tables["proxies"][tables["proxies"]["population"] == one.name]
            figures[f"proxies-{name}"] = correlation_figure(mine, title=one.name)
    return figures


def _stem(name: str) -> str:
    """Return a name for files: what follows a point would be taken for the kind of file."""
    return name.replace(" ", "-").replace(".", "_")


def _places(summary: pd.DataFrame) -> pd.Series:
    """Return what is drawn together: network and regime, as far as they are known."""
    known = [summary[name] for name in ("network", "regime") if name in summary]
    if not known:
        return pd.Series("", index=summary.index)
    return known[0].astype(str) if len(known) == 1 else known[0].astype(str) + " " + known[1].astype(str)


def _band(table: pd.DataFrame, name: str, ratio: str) -> Band:
    row = table[(table["population"] == name) & (table["statistic"] == ratio)].iloc[0]
    low, median, high = (float(np.float64(row[end])) for end in ("low", "median", "high"))
    return median, low, high
