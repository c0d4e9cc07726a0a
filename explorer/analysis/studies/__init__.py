"""What finished runs tell: read from their folders, and prepared for figures of any kind."""

from explorer.analysis.studies.composition import composition, recipe_text, widths
from explorer.analysis.studies.convergence import attainment, hypervolume_bands, hypervolume_curve
from explorer.analysis.studies.importance import Importance, axis_importance, importance_words
from explorer.analysis.studies.paired import Comparison, bootstrap_interval, compare_sets
from explorer.analysis.studies.ratios import frontier_ratios
from explorer.analysis.studies.result import LeftOut, StudyResult, read_results, read_study
from explorer.analysis.studies.rungs import rung_pairs, rung_words
from explorer.analysis.studies.series import groups_of, labels_of, series_of

__all__ = [
    "Comparison",
    "Importance",
    "LeftOut",
    "StudyResult",
    "attainment",
    "axis_importance",
    "bootstrap_interval",
    "compare_sets",
    "composition",
    "frontier_ratios",
    "groups_of",
    "hypervolume_bands",
    "hypervolume_curve",
    "importance_words",
    "labels_of",
    "read_results",
    "read_study",
    "recipe_text",
    "rung_pairs",
    "rung_words",
    "series_of",
    "widths",
]
