"""Plots: for each a function that prepares the data and one that draws it."""

from explorer.analysis.plots.distributions import (
    correlation_data,
    correlation_figure,
    draw_correlations,
    draw_edf,
    draw_profile,
    edf_data,
    edf_figure,
    profile_figure,
)
from explorer.analysis.plots.granularities import comparison_data, comparison_figure, draw_comparison
from explorer.analysis.plots.masks import STATES, MaskPanel, draw_mask, mask_data, mask_figure
from explorer.analysis.plots.optima import (
    draw_optima_by_regime,
    draw_optimum,
    optima_by_regime_data,
    optima_by_regime_figure,
    optima_figure,
    optimum_data,
    optimum_figure,
)
from explorer.analysis.plots.pareto import BASELINES, COLOURS, draw_pareto, pareto_data, pareto_figure
from explorer.analysis.plots.populations import population_figures
from explorer.analysis.plots.sensitivity import draw_sensitivity, sensitivity_data, sensitivity_figure
from explorer.analysis.plots.studies import (
    attainment_figure,
    composition_figure,
    draw_attainment,
    draw_composition,
    draw_hypervolume,
    draw_importance,
    draw_ratios,
    draw_rungs,
    hypervolume_figure,
    importance_figure,
    ratios_figure,
    rungs_figure,
)
from explorer.analysis.plots.study_figure import FIGURES, study_figure
from explorer.analysis.plots.style import STYLE, save

__all__ = [
    "BASELINES",
    "COLOURS",
    "FIGURES",
    "STATES",
    "STYLE",
    "MaskPanel",
    "attainment_figure",
    "comparison_data",
    "comparison_figure",
    "composition_figure",
    "correlation_data",
    "correlation_figure",
    "draw_attainment",
    "draw_comparison",
    "draw_composition",
    "draw_correlations",
    "draw_edf",
    "draw_hypervolume",
    "draw_importance",
    "draw_mask",
    "draw_optima_by_regime",
    "draw_optimum",
    "draw_pareto",
    "draw_profile",
    "draw_ratios",
    "draw_rungs",
    "draw_sensitivity",
    "edf_data",
    "edf_figure",
    "hypervolume_figure",
    "importance_figure",
    "mask_data",
    "mask_figure",
    "optima_by_regime_data",
    "optima_by_regime_figure",
    "optima_figure",
    "optimum_data",
    "optimum_figure",
    "pareto_data",
    "pareto_figure",
    "population_figures",
    "profile_figure",
    "ratios_figure",
    "rungs_figure",
    "save",
    "sensitivity_data",
    "sensitivity_figure",
    "study_figure",
]
