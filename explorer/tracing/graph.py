"""Channel labels carried through the operations that really run.

Every entry of every parameter dimension is a *node*. While the model runs once, each activation carries an
integer array, broadcastable to its shape, that says which node made each element; data movement is the same
operation applied to the labels, and an operation that needs two channels to stay or leave together records an
edge between their nodes. The connected components are then what can only be pruned together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["INPUT", "NONE", "OUTSIDE", "Block", "Graph", "Length", "Reduced", "Use", "compact", "varying"]

NONE = 0
"""Label of elements that belong to no channel: constants, padding."""
INPUT = 1
"""The one node of everything that comes from the model's input."""
OUTSIDE = -1
"""The step of what happens before and after the run."""


@dataclass
class Block:
    """The nodes of one tensor dimension: `nodes` from `first` on; see `spaces.Dim` for groups and reads."""

    tensor: str
    dim: int
    first: int
    length: int
    groups: int = 1
    reads: bool = False
    writes: bool = False

    @property
    def nodes(self) -> Tensor:
        return torch.arange(self.first, self.first + self.length)


@dataclass(frozen=True)
class Use:
    """One run of a layer in a module: each entry of its weight is multiplied `positions` times for the whole batch.

    Of a weight that was cut `cut` has the start and the length of what took part, for each dimension.
    """

    kind: str
    positions: int
    groups: int
    module: str
    cut: tuple[tuple[int, int], ...] = ()


@dataclass
class Reduced:
    """An operation that ran over channels as a whole, which lay along `axis` of its input; see `spaces.Reduction`."""

    module: str
    operator: str
    number: int
    axis: int
    nodes: npt.NDArray[np.int64]
    divisor: int | None = None


@dataclass(frozen=True)
class Length:
    """A number that code gave for the length of channels, in a module; `place` among so many `pieces` of a split."""

    module: str
    nodes: npt.NDArray[np.int64]
    place: int = 0
    pieces: int = 1


@dataclass
class Graph:
    """What one run of the model told: blocks of nodes, ties between them, reasons why some cannot be pruned.

    `step` numbers the operation that is running. `products` are (module, multiply-adds, nodes): equally many of
    them for each of the nodes, or for none in particular. `splits` are (groups, channels) nodes that a view
    divided: where it is not whole groups that leave, the i-th channels of all groups leave together. `companions` are
    pairs of parameters from which one weight is computed, `normed` are weights, the dimension of which every entry
    has a length of its own, and the parameter that holds these lengths.
    """

    blocks: dict[tuple[str, int], Block] = field(default_factory=dict)
    size: int = 2
    step: int = OUTSIDE
    fixes: list[tuple[int, npt.NDArray[np.int64], str]] = field(default_factory=list)
    balanced: list[tuple[npt.NDArray[np.int64], int]] = field(default_factory=list)
    splits: list[npt.NDArray[np.int64]] = field(default_factory=list)
    uses: dict[str, list[Use]] = field(default_factory=dict)
    products: list[tuple[str, int, npt.NDArray[np.int64]]] = field(default_factory=list)
    reductions: list[Reduced] = field(default_factory=list)
    lengths: list[Length] = field(default_factory=list)
    companions: list[tuple[str, str]] = field(default_factory=list)
    normed: list[tuple[str, int, str]] = field(default_factory=list)
    _edges: list[npt.NDArray[np.int64]] = field(default_factory=list)

    def block(self, tensor: str, dim: int, length: int) -> Block:
        """Return the block of a tensor dimension, made at its first use."""
        found = self.blocks.get((tensor, dim))
        if found is None:
            found = Block(tensor, dim, self.size, length)
            self.blocks[tensor, dim] = found
            self.size += length
        return found

    def node(self, reason: str) -> int:
        """Return a new node that is fixed for `reason`."""
        self.size += 1
        self.fix(torch.tensor([self.size - 1]), reason)
        return self.size - 1

    def unwritten(self, count: int) -> Tensor:
        """Return new nodes that no layer writes, of a constant."""
        self.size += count
        return torch.arange(self.size - count, self.size)

    def tie(self, first: Tensor, second: Tensor) -> None:
        """Record that the channels of two broadcastable label arrays stay or leave together, pair by pair."""
        a, b = torch.broadcast_tensors(first, second)
        pairs = torch.stack([a.reshape(-1), b.reshape(-1)], dim=1)
        pairs = pairs[(pairs != NONE).all(1) & (pairs[:, 0] != pairs[:, 1])]
        if len(pairs):
            # as one number a pair, which is told apart much faster
            codes = torch.unique(pairs[:, 0] << 32 | pairs[:, 1])
            self._edges.append(torch.stack([codes >> 32, codes & 0xFFFFFFFF], 1).numpy())

    def fix(self, labels: Tensor, reason: str) -> None:
        """Record that none of these channels can be pruned; the first reason given to a channel stays."""
        self.fixes.append((self.step, torch.unique(labels).numpy(), reason))

    def balance(self, nodes: Tensor, groups: int) -> None:
        """Record that `groups` equal, consecutive parts of `nodes` must keep equally many."""
        self.balanced.append((nodes.numpy(), groups))

    def split(self, groups: Tensor) -> None:
        """Record that a view divided channels into groups: (groups, channels) nodes."""
        self.splits.append(torch.unique(groups, dim=0).numpy())

    def share_reads(self) -> None:
        """Let a parameter that is combined with another one read what that one reads, and a norm all it runs over."""
        for name, own, lengths in self.normed:
            for dim in {0, 1} - {own}:
                if (name, dim) in self.blocks:
                    self.blocks[name, dim].reads = True
            if self.blocks[name, own].reads:
                # a row of zeros has no direction, but a length of zero makes it one
                self.blocks[name, own].reads, self.blocks[lengths, own].reads = False, True
        for first, second in self.companions:
            for dim in (0, 1):
                a, b = self.blocks.get((first, dim)), self.blocks.get((second, dim))
                if a is not None and b is not None and a.length == b.length:
                    a.reads = b.reads = a.reads or b.reads

    def ran(self, weight: str, use: Use) -> None:
        """Record one run of the layer with that weight."""
        self.uses.setdefault(weight, []).append(use)

    def reasons(self, live: Collection[int]) -> dict[int, str]:
        """Return why nodes are fixed, by what ran outside of all steps and in those that are `live`."""
        found: dict[int, str] = {}
        for step, nodes, reason in self.fixes:
            if step == OUTSIDE or step in live:
                for node in nodes.tolist():
                    if node != NONE:
                        found.setdefault(node, reason)
        return found

    @property
    def edges(self) -> npt.NDArray[np.int64]:
        """All ties as an (n, 2) array."""
        return np.concatenate([np.empty((0, 2), np.int64), *self._edges])


def compact(labels: Tensor) -> Tensor:
    """Return the labels with every dimension along which they are constant shrunk to length 1."""
    for dim, length in enumerate(labels.shape):
        if length > 1:
            first = labels.narrow(dim, 0, 1)
            if bool((labels == first).all()):
                labels = first
    return labels.clone()


def varying(labels: Tensor, dims: Iterable[int] | None = None) -> list[int]:
    """Return those of `dims` (default: all) along which compact labels vary."""
    chosen: Sequence[int] = range(labels.dim()) if dims is None else [dim % max(1, labels.dim()) for dim in dims]
    return [dim for dim in chosen if labels.size(dim) > 1]
