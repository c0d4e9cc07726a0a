"""Axis: one choice of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from spaces.granularity import Pattern, kept_steps, rounded
from spaces.units import ChannelUnit

__all__ = ["Axis", "Choice", "realised"]

Choice = float | int | Pattern | None


@dataclass(frozen=True)
class Axis:
    """The choices for one channel unit, weight or block, or for several that are tied, what keeps most first.

    Parameters
    ----------
    part
        ``channels``, ``weights`` or ``blocks``.
    name
        The unit, layer or block, or the glob that ties several.
    choices
        Channels: ratios that are realised, descending. Weights: patterns, kind by kind with descending ratios, and
        before them None where the dense weight is a choice. Blocks: 1 (kept), 0 (dropped). Of tied ones what was asked
        for, where that is not realised alike in all of them.
    members
        Of an axis that ties several units or weights the axis of each, with as many choices: those at one place are
        made together.
    """

    part: str
    name: str
    choices: tuple[Choice, ...]
    members: tuple[Axis, ...] = ()

    @classmethod
    def of(cls, unit: ChannelUnit, ratios: Sequence[float], divisor: int = 1) -> Axis:
        """Return the axis of `ratios` on a channel unit; ratios that give the same width are merged."""
        return cls("channels", unit.name, tuple(sorted({realised(unit, r, divisor) for r in ratios}, reverse=True)))

    @classmethod
    def tied(cls, part: str, glob: str, asked: Sequence[Choice], members: Mapping[str, Sequence[Choice]]) -> Axis:
        """Return the axis of several units or weights that share their choice.

        What is asked for twice is one choice only where all of them realise the same: the axis has every choice that
        tells any two of them apart.

        Parameters
        ----------
        part, glob
            Part and name of the axis.
        asked
            What the space offers them, what keeps most first.
        members
            By name what each realises of each of `asked`.
        """
        made: dict[tuple[Choice, ...], Choice] = {}
        for choice, together in zip(asked, zip(*members.values(), strict=True), strict=True):
            made.setdefault(together, together[0] if len(set(together)) == 1 else choice)
        axes = zip(members, zip(*made, strict=True), strict=True)
        return cls(part, glob, tuple(made.values()), tuple(cls(part, name, choices) for name, choices in axes))

    @property
    def addressed(self) -> tuple[Axis, ...]:
        """The axis of every unit, weight or block that a choice is made for: `members`, or the axis itself."""
        return self.members or (self,)

    def only(self, kept: Sequence[int]) -> Axis:
        """Return the axis with some of its choices, by their places."""
        members = tuple(one.only(kept) for one in self.members)
        return Axis(self.part, self.name, tuple(self.choices[i] for i in kept), members)

    @property
    def key(self) -> tuple[str, str]:
        """Part and name: what no two axes of a space share."""
        return self.part, self.name

    @property
    def label(self) -> str:
        """The key as text: a column of tables, a parameter of a sampler."""
        return f"{self.part}.{self.name}"

    @cached_property
    def ratios(self) -> tuple[float, ...]:
        """The ratio that each choice keeps, 1 for a dense weight."""
        return tuple(
            1.0 if choice is None else choice.ratio if isinstance(choice, Pattern) else float(choice)
            for choice in self.choices
        )

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of pattern among a weight's choices, in order; empty for channels and blocks."""
        return tuple(dict.fromkeys(choice.kind for choice in self.choices if isinstance(choice, Pattern)))

    @cached_property
    def families(self) -> Mapping[str, tuple[int, ...]]:
        """For each of `kinds`, else for the part, the choices that belong to it; a dense weight is of each kind."""
        if not self.kinds:
            return {self.part: tuple(range(len(self.choices)))}
        return {
            kind: tuple(i for i, choice in enumerate(self.choices) if choice is None or choice.kind == kind)  # type: ignore[union-attr]
            for kind in self.kinds
        }

    @cached_property
    def grid(self) -> tuple[float, ...]:
        """The different ratios of all choices, descending."""
        return tuple(sorted(set(self.ratios), reverse=True))

    @property
    def can_be_dense(self) -> bool:
        """Whether the first choice keeps everything."""
        return self.ratios[0] == 1

    def nearest(self, ratio: float, family: str) -> int:
        """Return the choice of one of `families` nearest to `ratio`, the wider one of two equally near."""
        return min(self.families[family], key=lambda i: (abs(self.ratios[i] - ratio), i))

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """For every choice those one step away: the next ratios of its kind, and its own ratio in other kinds."""
        near: list[set[int]] = [set() for _ in self.choices]
        for family, members in self.families.items():
            for before, after in pairwise(members):
                near[before].add(after)
                near[after].add(before)
            for choice, ratio in enumerate(self.ratios):
                if choice not in members:
                    near[choice].add(self.nearest(ratio, family))
        return tuple(tuple(sorted(found)) for found in near)


def realised(unit: ChannelUnit, ratio: float, divisor: int = 1) -> float:
    """Return the ratio of the width that a ratio gives a unit: of whole steps, and among `ChannelUnit.widths`."""
    steps = unit.steps
    if divisor == 1:
        return rounded(kept_steps(ratio, steps) / steps)
    return rounded(min(unit.widths(divisor), key=lambda width: (abs(width - ratio * steps), -width)) / steps)
