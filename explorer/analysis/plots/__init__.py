"""Plots: for each a function that prepares the data and one that draws it."""

from explorer.analysis.plots.granularities import LOOKS, comparison_data, comparison_figure, draw_comparison
from explorer.analysis.plots.masks import STATES, MaskPanel, draw_mask, mask_data, mask_figure
from explorer.analysis.plots.pareto import BASELINES, COLOURS, draw_pareto, pareto_data, pareto_figure
from explorer.analysis.plots.style import STYLE, save

__all__ = [
    "BASELINES",
    "COLOURS",
    "LOOKS",
    "STATES",
    "STYLE",
    "MaskPanel",
    "comparison_data",
    "comparison_figure",
    "draw_comparison",
    "draw_mask",
    "draw_pareto",
    "mask_data",
    "mask_figure",
    "pareto_data",
    "pareto_figure",
    "save",
]
