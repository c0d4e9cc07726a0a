"""Populations of sub-networks: distributions, structure, optimal ratios and conjectures; tables in, tables out."""

from explorer.analysis.populations.adjusting import LEVEL, holm
from explorer.analysis.populations.analysis import PROXY, Analysis, analyse
from explorer.analysis.populations.comparison import compare, superiority
from explorer.analysis.populations.conjectures import ANSWERS, conjecture_table
from explorer.analysis.populations.correlation import rank_correlations
from explorer.analysis.populations.edf import edf, edf_table, evaluations_table, flops_bins, summary_table
from explorer.analysis.populations.findings import TITLES, findings
from explorer.analysis.populations.optimum import Optimum, common_optimum_p, fit_optimum, optimum_table
from explorer.analysis.populations.population import (
    LEAST,
    Population,
    check_comparable,
    populations_of,
    read_populations,
)
from explorer.analysis.populations.structure import layer_ratios, profile_table, stages_of, structure_table
from explorer.analysis.populations.winners import best_draws, structure_bands, winner_bands, winners_of

__all__ = [
    "ANSWERS",
    "LEAST",
    "LEVEL",
    "PROXY",
    "TITLES",
    "Analysis",
    "Optimum",
    "Population",
    "analyse",
    "best_draws",
    "check_comparable",
    "common_optimum_p",
    "compare",
    "conjecture_table",
    "edf",
    "edf_table",
    "evaluations_table",
    "findings",
    "fit_optimum",
    "flops_bins",
    "holm",
    "layer_ratios",
    "optimum_table",
    "populations_of",
    "profile_table",
    "rank_correlations",
    "read_populations",
    "stages_of",
    "structure_bands",
    "structure_table",
    "summary_table",
    "superiority",
    "winner_bands",
    "winners_of",
]
