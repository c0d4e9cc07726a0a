"""Criteria: what every weight and every channel of a network is worth.

Names are imported when they are asked for: `CRITERIA` and `Options` check a configuration without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.pruning.criteria.batches import scoring_batches
    from explorer.pruning.criteria.cache import cached_scores
    from explorer.pruning.criteria.catalogue import CRITERIA, Criterion
    from explorer.pruning.criteria.options import Options
    from explorer.pruning.criteria.scoring import Scores, score
    from explorer.pruning.criteria.subject import Subject

__all__ = ["CRITERIA", "Criterion", "Options", "Scores", "Subject", "cached_scores", "score", "scoring_batches"]

_HOMES = {
    "CRITERIA": "catalogue",
    "Criterion": "catalogue",
    "Options": "options",
    "Scores": "scoring",
    "Subject": "subject",
    "cached_scores": "cache",
    "score": "scoring",
    "scoring_batches": "batches",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
