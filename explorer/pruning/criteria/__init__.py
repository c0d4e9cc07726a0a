"""Criteria: what every weight and every channel of a network is worth."""

from explorer.pruning.criteria.cache import cached_scores
from explorer.pruning.criteria.drawing import drawn
from explorer.pruning.criteria.options import Options
from explorer.pruning.criteria.scoring import Scores, score
from explorer.pruning.criteria.table import CRITERIA, Criterion

__all__ = ["CRITERIA", "Criterion", "Options", "Scores", "cached_scores", "drawn", "score"]
