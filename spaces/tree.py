"""Tree: which axes decide nothing once a block is dropped, and how recipes are numbered because of it.

The axes inside a block count only where the block is kept, so the recipes of a block are one (dropped) more than
the product of what is inside it. Blocks may hold blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import numpy.typing as npt

from spaces.axis import Axis
from spaces.network import Network

__all__ = ["Tree", "home"]


@dataclass(frozen=True)
class Tree:
    """The axes that depend on one block's being kept, or for the root on none.

    Parameters
    ----------
    axis
        Place of the block's axis, None for the root.
    choices
        The block's own choices, 1 and 0; ``(1,)`` for the root.
    parts
        What lies directly inside, in order: a (place, number of choices) pair for an axis, a tree for a block.
    """

    axis: int | None
    choices: tuple[int, ...]
    parts: tuple[tuple[int, int] | Tree, ...]

    @classmethod
    def of(cls, network: Network, axes: Sequence[Axis]) -> Tree:
        """Return the root over the axes of a space."""
        blocks = {axis.name: place for place, axis in enumerate(axes) if axis.part == "blocks"}
        inside: dict[str | None, list[int]] = {}
        for place, axis in enumerate(axes):
            # tied axes have one home, see `spaces.binding`
            inside.setdefault(home(network, axis.addressed[0], blocks), []).append(place)

        def grow(block: str | None) -> Tree:
            parts = tuple(
                grow(axes[place].name) if axes[place].part == "blocks" else (place, len(axes[place].choices))
                for place in inside.get(block, [])
            )
            if block is None:
                return cls(None, (1,), parts)
            place = blocks[block]
            return cls(place, tuple(int(choice) for choice in axes[place].choices), parts)  # type: ignore[arg-type]

        return grow(None)

    @cached_property
    def kept(self) -> int:
        """Number of recipes of what is inside, where the block is kept; 0 if it never is."""
        return (1 in self.choices) * prod(part.size if isinstance(part, Tree) else part[1] for part in self.parts)

    @property
    def size(self) -> int:
        """Number of recipes of the block and what is inside."""
        return self.kept + (0 in self.choices)

    @cached_property
    def blocks(self) -> tuple[Tree, ...]:
        """The blocks below, outer ones before those inside them."""
        found: list[Tree] = []
        for part in self.parts:
            if isinstance(part, Tree):
                found += [part, *part.blocks]
        return tuple(found)

    @cached_property
    def inner(self) -> npt.NDArray[np.intp]:
        """Places of all axes inside, those of blocks included."""
        own = [part.axis if isinstance(part, Tree) else part[0] for part in self.parts]
        deeper = [part.inner for part in self.parts if isinstance(part, Tree)]
        return np.concatenate([np.array(own, dtype=np.intp), *deeper])

    def write(self, index: npt.NDArray, rows: npt.NDArray[np.int16]) -> None:
        """Write the choices at positions `index` into zeroed rows.

        Parameters
        ----------
        index
            (n,) positions in 0 .. size - 1, of int64 or of Python's integers.
        rows
            (n, axes); the columns of the block and of all inside are written.
        """
        if self.axis is not None:
            kept = np.asarray(index < self.kept, dtype=bool)
            places = {choice: place for place, choice in enumerate(self.choices)}
            rows[:, self.axis] = np.where(kept, places.get(1, 0), places.get(0, 0))
            index = np.where(kept, index, 0)
        for part in reversed(self.parts):
            size = part.size if isinstance(part, Tree) else part[1]
            digit, index = index % size, index // size
            if isinstance(part, Tree):
                part.write(digit, rows)
            else:
                rows[:, part[0]] = digit

    def rank(self, row: Sequence[int]) -> int:
        """Return the position of a canonical row."""
        if self.axis is not None and self.choices[row[self.axis]] == 0:
            return self.kept
        index = 0
        for part in self.parts:
            size, digit = (part.size, part.rank(row)) if isinstance(part, Tree) else (part[1], row[part[0]])
            index = index * size + digit
        return index

    def dropped(self, rows: npt.NDArray) -> npt.NDArray[np.bool_]:
        """Return in which of the (n, axes) rows the block itself is dropped."""
        return np.array([choice == 0 for choice in self.choices])[rows[:, self.axis]]


def home(network: Network, axis: Axis, blocks: Collection[str]) -> str | None:
    """Return the innermost block with an axis without which this axis decides nothing."""
    if axis.part == "channels":
        around = [name for name in network.enclosing[axis.name] if name in blocks]
    else:
        around = [name for name in blocks if name != axis.name and network.block[name].holds(axis.name)]
    return max(around, key=len, default=None)
