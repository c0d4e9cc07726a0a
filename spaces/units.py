"""Units: what is pruned together - coupled channels, residual blocks - and what cannot be, with the reason."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, lcm

__all__ = ["BlockUnit", "ChannelUnit", "FixedBlock", "FixedChannels"]


@dataclass(frozen=True)
class ChannelUnit:
    """Coupled channels that one ratio decides: a layer's filters, their norm entries, their readers' inputs.

    Parameters
    ----------
    name
        The first layer that writes the channels, in order of execution.
    channels
        Output channels of that layer that belong to the unit.
    tied
        Channels that can only leave together (1, or a head's size). ``channels / tied`` *atoms* can be chosen.
    groups
        The atoms form this many equal, consecutive groups, and every group keeps equally many
        (1, or the least common multiple of the group counts of the grouped convolutions at the unit).
    writers
        Every layer that writes the unit; each of them addresses it.
    """

    name: str
    channels: int
    tied: int = 1
    groups: int = 1
    writers: tuple[str, ...] = ()

    @property
    def atoms(self) -> int:
        """Number of smallest removable parts."""
        return self.channels // self.tied

    @property
    def step(self) -> int:
        """Channels by which the unit's width changes."""
        return self.tied * self.groups

    @property
    def steps(self) -> int:
        """Number of different widths, 1 to ``channels / step``."""
        return self.channels // self.step

    def widths(self, divisor: int = 1) -> tuple[int, ...]:
        """Return the widths that may be kept, in steps, ascending: those that a divisor divides, and the whole unit.

        Where its step and the divisor have no common multiple inside the unit, the steps nearest to the divisor's
        multiples are taken; a unit of fewer channels than the divisor stays whole.

        Examples
        --------
        >>> ChannelUnit("conv", 20).widths(8)
        (8, 16, 20)
        >>> ChannelUnit("heads of 12", 72, tied=12).widths(8)  # 24, 48 and 72 channels
        (2, 4, 6)
        >>> ChannelUnit("heads of 12", 72, tied=12).widths(32)  # 36, 60 and 72: next to 32 and 64
        (3, 5, 6)
        """
        common = lcm(self.step, divisor) // self.step
        if common < self.steps:
            return tuple(dict.fromkeys([*range(common, self.steps + 1, common), self.steps]))
        near = {max(1, floor(width / self.step + 0.5)) for width in range(divisor, self.channels + 1, divisor)}
        return tuple(sorted(near | {self.steps}))


@dataclass(frozen=True)
class FixedChannels:
    """Output channels of a layer that cannot be pruned, and why."""

    name: str
    channels: int
    reason: str


@dataclass(frozen=True)
class BlockUnit:
    """A residual block that can be dropped: a call then returns the residual operand and runs nothing.

    Parameters
    ----------
    name
        The block's module. Everything below it runs inside it only.
    returns
        Which argument the call returns: a position or a keyword. A tuple for a block that returns one: what
        stands at each place, None for nothing.
    adds
        Whether what a call returns is only added to something, as that of the attention or the MLP of a block whose
        norms come first: in place of the argument a dropped one then returns zeros of its shape.
    """

    name: str
    returns: int | str | tuple[int | str | None, ...] = 0
    adds: bool = False

    def holds(self, name: str) -> bool:
        """Tell whether a tensor, layer or module of that name lies inside the block."""
        return name.startswith(self.name + ".") or name == self.name


@dataclass(frozen=True)
class FixedBlock:
    """A residual block that cannot be dropped, and why."""

    name: str
    reason: str
