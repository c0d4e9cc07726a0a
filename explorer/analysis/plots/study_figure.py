"""The figures of one study, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd
from matplotlib.figure import Figure

from explorer.analysis.plots.pareto import Bounds, pareto_figure
from explorer.analysis.plots.sensitivity import sensitivity_figure
from explorer.analysis.plots.studies import hypervolume_figure, importance_figure, ratios_figure, rungs_figure
from explorer.analysis.studies import (
    axis_importance,
    frontier_ratios,
    hypervolume_bands,
    hypervolume_curve,
    rung_pairs,
)
from explorer.analysis.tables import Scale, at_rung, frontier_table
from explorer.search.metrics import METRICS
from spaces import PruningError, PruningSpace, unknown

__all__ = ["FIGURES", "study_figure"]


def study_figure(
    figure: str,
    trials: pd.DataFrame,
    space: PruningSpace,
    scale: Scale,
    *,
    dense: Mapping[str, float],
    sensitivity: Callable[[], pd.DataFrame],
    x: str = "flops",
    bounds: Bounds = (),
) -> Figure:
    """Return a figure of a study by its name.

    Parameters
    ----------
    figure
        One of `FIGURES`.
    trials
        The trials table.
    space, scale
        The study's space, and its objectives.
    dense
        The dense network's metrics.
    sensitivity
        Measures how much each choice alone changes the predictions, see `explorer.analysis.sensitivity`.
    x
        The cost of the frontier's figure, a key of `METRICS`.
    bounds
        The budget.

    Raises
    ------
    PruningError
        If a name is unknown, or the study has nothing to show there.
    """
    if figure == "frontier":
        costs = [key for key, metric in METRICS.items() if metric.cost and key in trials]
        if x not in costs:
            raise unknown("x", x, costs)
        return pareto_figure(trials, dense, scale, x=x, bounds=bounds)
    if figure == "sensitivity":
        return sensitivity_figure(sensitivity())
    if figure not in _MADE:
        raise unknown("figure", figure, FIGURES)
    return _MADE[figure](trials, space, scale)


def _hypervolume(trials: pd.DataFrame, space: PruningSpace, scale: Scale) -> Figure:
    return hypervolume_figure(hypervolume_bands({space.network.name: [hypervolume_curve(trials, scale)]}))


def _importance(trials: pd.DataFrame, space: PruningSpace, scale: Scale) -> Figure:
    found = axis_importance(space, [at_rung(trials)])
    if found is None:
        raise PruningError("figure: importance needs two axes and two dozen trials whose errors differ")
    return importance_figure(found.table)


def _ratios(trials: pd.DataFrame, space: PruningSpace, scale: Scale) -> Figure:
    table = frontier_ratios(frontier_table(trials, scale), space)
    if not len(table):
        raise PruningError("figure: ratios are those of a frontier, and no trial ended well")
    return ratios_figure(table)


def _rungs(trials: pd.DataFrame, space: PruningSpace, scale: Scale) -> Figure:
    pairs = rung_pairs(trials)
    if not len(pairs):
        raise PruningError("figure: rungs needs recipes that were evaluated at two of them")
    return rungs_figure(pairs, error=scale.error)


_MADE: Mapping[str, Callable[[pd.DataFrame, PruningSpace, Scale], Figure]] = {
    "hypervolume": _hypervolume,
    "importance": _importance,
    "ratios": _ratios,
    "rungs": _rungs,
}
FIGURES = ("frontier", *_MADE, "sensitivity")
"""Names of the figures of one study."""
