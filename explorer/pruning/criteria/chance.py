"""Scores by chance: what any other criterion has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from explorer.pruning.criteria.magnitude import Named
from explorer.pruning.criteria.subject import Subject

__all__ = ["channels", "weights"]


def weights(subject: Subject) -> Named:
    """Return numbers uniform in [0, 1), made from the seed alone."""
    generator = torch.Generator().manual_seed(2 * subject.options.seed)
    for name, weight in subject.weights.items():
        yield name, torch.rand(weight.shape, generator=generator, dtype=torch.float64)


def channels(subject: Subject) -> dict[str, Tensor]:
    """Return one such number for every channel: sums over many weights would all be nearly the same."""
    generator = torch.Generator().manual_seed(2 * subject.options.seed + 1)
    return {
        unit.name: torch.rand(unit.atoms, generator=generator, dtype=torch.float64) for unit in subject.network.units
    }
