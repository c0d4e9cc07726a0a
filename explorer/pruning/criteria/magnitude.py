"""Criteria that look at weights alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from explorer.pruning.criteria.subject import Subject

__all__ = ["Named", "l1", "l2"]

Named = Iterator[tuple[str, Tensor]]
"""Names of weights, and scores of their shape in float64 on the CPU."""


def l1(subject: Subject) -> Named:
    """Return the magnitude of every weight."""
    return _of_entries(subject, torch.abs)


def l2(subject: Subject) -> Named:
    """Return the square of every weight."""
    return _of_entries(subject, torch.square)


def _of_entries(subject: Subject, function: Callable[[Tensor], Tensor]) -> Named:
    for name, weight in subject.weights.items():
        yield name, function(weight.detach().cpu().double())
