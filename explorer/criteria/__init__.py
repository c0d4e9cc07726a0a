"""Criteria: what every weight and every channel of a network is worth."""

from explorer.criteria.cache import cached_scores
from explorer.criteria.drawing import drawn
from explorer.criteria.options import Options
from explorer.criteria.scoring import Scores, score
from explorer.criteria.table import CRITERIA, Criterion

__all__ = ["CRITERIA", "Criterion", "Options", "Scores", "cached_scores", "drawn", "score"]
