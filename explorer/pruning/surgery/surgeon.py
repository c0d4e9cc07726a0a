"""Surgery: from the channels a recipe keeps to a smaller module, by slicing and nothing else.

A `Surgeon` is compiled once for a model and its Network. A candidate then costs one index_select for each
tensor dimension that shrinks and a shallow copy of the module tree; the dense weights are neither copied nor
referenced.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from explorer.pruning.surgery.atoms import Atoms, Kept
from explorer.pruning.surgery.attributes import size_attributes
from explorer.pruning.surgery.layer_numbers import LayerNumbers
from explorer.pruning.surgery.skeleton import Skeleton
from explorer.pruning.surgery.stand_ins import ChannelSlice, Skip, swapped
from spaces import Dim, Network, PruningError, Span

__all__ = ["Surgeon"]


class Surgeon:
    """Builds the sub-networks of one model.

    Parameters
    ----------
    model
        The dense model; its weights are read at every build.
    network
        What `trace` said of it.

    Raises
    ------
    PruningError
        If the model lacks a tensor of the network, or has one of another shape.
    """

    def __init__(self, model: nn.Module, network: Network) -> None:
        self.network = network
        self._model = model
        self.atoms = Atoms(network)
        self._tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for tensor in network.tensors:
            expected = [dim.length for dim in tensor.dims]
            if tensor.name not in self._tensors or list(self._tensors[tensor.name].shape) != expected:
                raise PruningError(f"model: it has no tensor {tensor.name!r} of shape {expected}, as its network says")
        # many tensor dimensions are alike: what stays of them is found once a build
        numbers: dict[tuple[Span, ...], int] = {}
        self._plan = [
            (
                tensor.name,
                self._tensors[tensor.name],
                [(numbers.setdefault(dim.spans, len(numbers)), dim) for dim in tensor.dims],
            )
            for tensor in network.tensors
        ]
        alike = {number: dim for _, _, dims in self._plan for number, dim in dims}
        self._dims = [alike[number] for number in range(len(alike))]
        self._places = {name: dims for name, _, dims in self._plan}
        self._skeleton = Skeleton(model, [dense for _, dense, _ in self._plan])
        modules = dict(model.named_modules())
        self._leaves = [(modules[leaf.name], leaf) for leaf in network.leaves]
        self._sizes = size_attributes(model, network)
        self._numbers = LayerNumbers(model)
        self._blocks = {block.name: (modules[block.name], block) for block in network.droppable}

    def __reduce__(self) -> tuple[type[Surgeon], tuple[nn.Module, Network]]:
        # the plans know tensors and modules by their addresses, which are other ones in another process
        return type(self), (self._model, self.network)

    def build(self, kept: Kept, dropped: Collection[str] = ()) -> nn.Module:
        """Return a module of the dense model's class that has the kept channels and blocks only.

        Parameters
        ----------
        kept
            Sorted atom indices by unit; equally many in each of a unit's groups.
        dropped
            Names of the blocks that are left out.
        """
        alive = self.atoms.alive(kept)
        stay = [self._stay(dim, kept, alive) for dim in self._dims]
        inside = tuple(f"{name}." for name in dropped)
        outermost = (self._blocks[name] for name in dropped if not name.startswith(inside))
        replaced: dict[int, Any] = {
            id(module): Skip(module, block.returns, adds=block.adds) for module, block in outermost
        }
        with torch.no_grad():
            for name, dense, dims in self._plan:
                if inside and name.startswith(inside):
                    continue
                moved = [(axis, index, dim) for axis, (n, dim) in enumerate(dims) if (index := stay[n]) is not None]
                small = _sliced(dense, moved)
                if isinstance(dense, nn.Parameter):
                    small = nn.Parameter(small, requires_grad=dense.requires_grad)
                replaced[id(dense)] = small
        module = self._skeleton.copy(replaced, dropped)
        if dropped:
            self._numbers.give(replaced, dropped)
        for size in self._sizes:
            entries = self._stay(size.dim, kept, alive) if id(size.module) in replaced else None
            if entries is not None:
                numbers = vars(replaced[id(size.module)])
                numbers[size.attribute] = size.of(len(entries), numbers[size.attribute])
        for leaf, entry in self._leaves:
            if kept.keys() & (entry.reads.units | entry.writes.units) and not entry.name.startswith(inside):
                reads = alive[self.atoms.labels(entry.reads)]
                spread = torch.where(reads, reads.cumsum(0) - 1, reads.sum())
                sliced = ChannelSlice(replaced[id(leaf)], spread, self._entries(entry.writes, alive))
                sliced.train(leaf.training)
                device = next(iter(self._tensors.values())).device
                # the index maps of a skeleton without storage hold values all the same
                module = swapped(module, entry.name, sliced if device.type == "meta" else sliced.to(device))
        return module

    def sliced(self, tensors: Mapping[str, Tensor], kept: Kept) -> dict[str, Tensor]:
        """Return what `build` keeps of tensors that lie beside the dense ones, such as scores.

        Parameters
        ----------
        tensors
            By the name of the model's tensor whose shape they have; one of which everything stays is returned itself.
        kept
            As `build` takes it.
        """
        alive = self.atoms.alive(kept)
        stay: dict[int, Tensor | None] = {}
        small = {}
        for name, tensor in tensors.items():
            moved = []
            for axis, (n, dim) in enumerate(self._places[name]):
                if n not in stay:
                    stay[n] = self._stay(dim, kept, alive)
                if (index := stay[n]) is not None:
                    moved.append((axis, index, dim))
            small[name] = _sliced(tensor, moved) if moved else tensor
        return small

    def _stay(self, dim: Dim, kept: Kept, alive: Tensor) -> Tensor | None:
        """Return the entries that stay; None for all of them."""
        return None if dim.units.isdisjoint(kept.keys()) else self._entries(dim, alive)

    def _entries(self, dim: Dim, alive: Tensor) -> Tensor:
        return alive.index_select(0, self.atoms.labels(dim)).nonzero().squeeze(1)


def _sliced(dense: Tensor, moved: list[tuple[int, Tensor, Dim]]) -> Tensor:
    """Return a copy of the kept part of a tensor: (axis, kept entries, dim) of the dimensions that shrink."""
    if not moved:
        return dense.clone()
    grouped = next((entry for entry in moved if entry[2].groups > 1), None)
    if grouped is not None:
        rows = next((index for axis, index, _ in moved if axis == 0), torch.arange(dense.size(0)))
        return _sliced_group(dense, rows, *grouped)
    if len(moved) > 1:
        # the dimension that shrinks most goes first, so that the least is moved twice
        moved.sort(key=lambda entry: len(entry[1]) / entry[2].length)
    small = dense
    for axis, index, _ in moved:
        small = small.index_select(axis, index.to(dense.device))
    return small


def _sliced_group(dense: Tensor, rows: Tensor, axis: int, inputs: Tensor, dim: Dim) -> Tensor:
    """Return the kept part of a grouped convolution's weight: every row has its own group's inputs."""
    own = inputs.reshape(dim.groups, -1) % dense.size(axis)
    group_of = rows // (dense.size(0) // dim.groups)
    return dense[rows[:, None].to(dense.device), own[group_of].to(dense.device)]
