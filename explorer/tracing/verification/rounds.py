"""Which atoms and blocks every round of the check keeps.

Two units that should be one pass a check in which they happen to keep equally many, or in which one keeps a single
channel, which broadcasts. So the widths of units of one size are chosen such that any two of them differ in some
round in which no block is dropped.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch

from spaces import ChannelUnit

__all__ = ["Rounds"]

# a wrong unit of few channels or heads passes a round by luck, so that more are made
_ROUNDS, _ROUNDS_OF_SMALL, _SMALL, _FEW = 4, 10, 12, 4
# rounds in which every second unit keeps its first atoms
_HALVES = (1, 2)
# in rounds of joint recipes, which come last, this share of the blocks is dropped
_DROPPED = 0.5


class Rounds:
    """The rounds for some units: `joint` is the number of the first one that drops blocks.

    Every unit loses a random part in round 0. Then the first atoms of every second unit are kept, so that what is
    split in the middle, or shared by two units, becomes uneven; then, where round 0 has too few widths for all units
    of one size, come rounds that tell these apart; then random recipes.
    """

    def __init__(self, units: Sequence[ChannelUnit]) -> None:
        self._place = {unit.name: place for place, unit in enumerate(units)}
        alike: dict[tuple[int, int], list[ChannelUnit]] = {}
        for unit in units:
            alike.setdefault((unit.atoms, unit.groups), []).append(unit)
        self._digits: dict[str, list[int]] = {}
        for (atoms, groups), several in alike.items():
            digits = _digits(len(several), atoms // groups)
            self._digits |= {unit.name: own for unit, own in zip(several, digits, strict=True)}
        self.joint = 1 + len(_HALVES) + max((len(own) - 1 for own in self._digits.values()), default=0)
        small = any(unit.channels <= _SMALL * unit.groups or unit.atoms <= _FEW * unit.groups for unit in units)
        self.count = max(_ROUNDS_OF_SMALL if small else _ROUNDS, self.joint + 1)

    def without(self, block: str, number: int) -> bool:
        """Tell whether round `number` drops the block, if it checks it."""
        return number < self.joint or _rng(number, block).random() < _DROPPED

    def subset(self, unit: ChannelUnit, number: int) -> torch.Tensor:
        """Return the atoms of the unit that round `number` keeps, equally many in every group."""
        rng = _rng(number, unit.name)
        per_group = unit.atoms // unit.groups
        if number in _HALVES:
            keep = int(rng.integers(1, per_group))
            keep = keep if self._place[unit.name] % 2 == number - 1 else per_group
            picks = [np.arange(keep)] * unit.groups
        else:
            keep = self._width(unit, number, rng)
            picks = [np.sort(rng.permutation(per_group)[:keep]) for _ in range(unit.groups)]
        return torch.from_numpy(np.concatenate([group * per_group + pick for group, pick in enumerate(picks)]))

    def _width(self, unit: ChannelUnit, number: int, rng: np.random.Generator) -> int:
        """Return how many atoms of each group a round with random atoms keeps."""
        digits, place = self._digits[unit.name], max(0, number - len(_HALVES))
        if number < self.joint and place < len(digits):
            return digits[place]
        return int(rng.integers(1, unit.atoms // unit.groups + 1))


def _digits(count: int, size: int) -> list[list[int]]:
    """Return for each of `count` units of one size a width a round, no two alike in all.

    Round 0 has widths below the size, since there every unit loses something, and above 1 where there are such.
    """
    first = list(range(2, size)) or [1]
    rest = list(range(2, size + 1)) if size > 2 else [1, 2]
    # large steps, so that widths are spread
    spread = [first[place * len(first) // min(count, len(first))] for place in range(min(count, len(first)))]
    codes = [[spread[number % len(spread)]] for number in range(count)]
    values = [number // len(spread) for number in range(count)]
    while any(values):
        for code, value in zip(codes, values, strict=True):
            code.append(rest[value % len(rest)])
        values = [value // len(rest) for value in values]
    return codes


def _rng(number: int, name: str) -> np.random.Generator:
    return np.random.default_rng([number, zlib.crc32(name.encode())])
