"""Which atoms and blocks a round of the check keeps."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from spaces import ChannelUnit

__all__ = ["JOINT", "rounds", "subset", "without"]

# rounds of subsets; a wrong unit of few channels or heads passes one by luck, so that more are made
_ROUNDS, _ROUNDS_OF_SMALL, _SMALL, _FEW = 4, 10, 12, 4
JOINT = 3
"""The first round of joint recipes, in which a share of the blocks is dropped."""
_DROPPED = 0.5


def rounds(units: Sequence[ChannelUnit]) -> int:
    """Return how many rounds are made for these units."""
    small = any(unit.channels <= _SMALL * unit.groups or unit.atoms <= _FEW * unit.groups for unit in units)
    return _ROUNDS_OF_SMALL if small else _ROUNDS


def without(block: str, number: int) -> bool:
    """Tell whether round `number` drops the block, if it checks it."""
    return number < JOINT or _rng(number, block).random() < _DROPPED


def subset(unit: ChannelUnit, place: int, number: int) -> torch.Tensor:
    """Return the atoms of the unit in this place that round `number` keeps, equally many in every group.

    Every unit loses a random part in the first round. Then the first atoms of every second unit are kept, so
    that what is split in the middle, or shared by two units, becomes uneven; then come random recipes.
    """
    rng = _rng(number, unit.name)
    per_group = unit.atoms // unit.groups
    keep = int(rng.integers(1, per_group + (number >= JOINT)))
    if number in (1, 2):
        keep = keep if place % 2 == number - 1 else per_group
        picks = [np.arange(keep)] * unit.groups
    else:
        picks = [np.sort(rng.permutation(per_group)[:keep]) for _ in range(unit.groups)]
    return torch.from_numpy(np.concatenate([group * per_group + pick for group, pick in enumerate(picks)]))


def _rng(number: int, name: str) -> np.random.Generator:
    return np.random.default_rng([number, zlib.crc32(name.encode())])
