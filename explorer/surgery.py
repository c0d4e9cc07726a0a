"""Surgery: from the channels a recipe keeps to a smaller module, by slicing and nothing else.

A `Surgeon` is compiled once for a model and its Network. A candidate then costs one index_select for each
tensor dimension that shrinks and a shallow copy of the module tree; the dense weights are neither copied nor
referenced.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spaces import Dim, Network, PruningError

__all__ = ["Atoms", "ChannelSlice", "Kept", "Surgeon", "masked"]

Kept = Mapping[str, Tensor]
"""Sorted indices of the atoms kept, by unit; units that are not named stay whole."""


class Atoms:
    """The atoms of all units numbered through, and which of them every tensor entry belongs to."""

    def __init__(self, network: Network) -> None:
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        total = 0
        for unit in network.units:
            self._first[unit.name] = total
            total += unit.atoms
            self._last[unit.name] = total
        # one number more for whatever is fixed
        self._fixed = total
        self._labels: dict[Dim, Tensor] = {}

    def numbers(self, unit: str) -> slice:
        """Return the numbers of a unit's atoms."""
        return slice(self._first[unit], self._last[unit])

    def labels(self, dim: Dim) -> Tensor:
        """Return the number of each entry's atom, as an int64 vector."""
        found = self._labels.get(dim)
        if found is None:
            parts = []
            for run in dim.runs:
                if run.unit is None:
                    parts.append(torch.full((run.entries,), self._fixed))
                else:
                    first = self._first[run.unit] + run.start
                    parts.append(torch.arange(first, first + run.count).repeat_interleave(run.each))
            found = self._labels[dim] = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
        return found

    def alive(self, kept: Kept) -> Tensor:
        """Return for every atom, and last for what is fixed, whether it stays."""
        mask = torch.ones(self._fixed + 1, dtype=torch.bool)
        for unit, atoms in kept.items():
            mask[self.numbers(unit)] = False
            mask[atoms + self._first[unit]] = True
        return mask


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
        self.atoms = Atoms(network)
        self._tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        for tensor in network.tensors:
            expected = [dim.length for dim in tensor.dims]
            if tensor.name not in self._tensors or list(self._tensors[tensor.name].shape) != expected:
                raise PruningError(f"model: it has no tensor {tensor.name!r} of shape {expected}, as its network says")
        self._skeleton = _Skeleton(model)
        modules = dict(model.named_modules())
        self._leaves = [(modules[leaf.name], leaf) for leaf in network.leaves]

    def build(self, kept: Kept) -> nn.Module:
        """Return a module of the dense model's class that has the kept channels only.

        Parameters
        ----------
        kept
            Sorted atom indices by unit; equally many in each of a unit's groups.
        """
        alive = self.atoms.alive(kept)
        entries: dict[Dim, Tensor] = {}

        def stay(dim: Dim) -> Tensor:
            if dim not in entries:
                entries[dim] = alive[self.atoms.labels(dim)].nonzero().squeeze(1)
            return entries[dim]

        replaced: dict[int, Any] = {}
        with torch.no_grad():
            for tensor in self.network.tensors:
                dense = self._tensors[tensor.name]
                small = _sliced(dense, tensor.dims, stay, kept)
                if isinstance(dense, nn.Parameter):
                    small = nn.Parameter(small, requires_grad=dense.requires_grad)
                replaced[id(dense)] = small
        module = self._skeleton.copy(replaced)
        for leaf, entry in self._leaves:
            if kept.keys() & (entry.reads.units | entry.writes.units):
                reads = alive[self.atoms.labels(entry.reads)]
                spread = torch.where(reads, reads.cumsum(0) - 1, reads.sum())
                moved = ChannelSlice(replaced[id(leaf)], spread, stay(entry.writes))
                moved.train(leaf.training)
                device = next(iter(self._tensors.values())).device
                module = _swap(module, entry.name, moved.to(device))
        return module


def masked(model: nn.Module, network: Network, kept: Kept) -> nn.Module:
    """Return a copy of the dense model in which every reader of a removed channel sees zero.

    It computes what the sliced network computes, at the dense cost.
    """
    masked_model = copy.deepcopy(model)
    atoms = Atoms(network)
    alive = atoms.alive(kept)
    tensors = {**dict(masked_model.named_parameters()), **dict(masked_model.named_buffers())}
    with torch.no_grad():
        for tensor in network.tensors:
            for axis, dim in enumerate(tensor.dims):
                if dim.reads and dim.units & kept.keys():
                    mask = alive[atoms.labels(dim)]
                    value = tensors[tensor.name]
                    if dim.groups > 1:
                        per_row = mask.reshape(dim.groups, -1).repeat_interleave(value.size(0) // dim.groups, 0)
                        value *= per_row.reshape(*per_row.shape, *[1] * (value.dim() - 2)).to(value)
                    else:
                        value.index_fill_(axis, (~mask).nonzero().squeeze(1).to(value.device), 0)
    for leaf in network.leaves:
        removed = (~alive[atoms.labels(leaf.reads)]).nonzero().squeeze(1)
        if len(removed):
            masked_model = _swap(masked_model, leaf.name, _ChannelMask(masked_model.get_submodule(leaf.name), removed))
    return masked_model


class ChannelSlice(nn.Module):
    """A leaf that moves channels, between sliced neighbours.

    The leaf's code knows the dense widths only. So its input is spread out to them, zero where a channel was
    removed, and of its output the kept channels are taken.

    Parameters
    ----------
    leaf
        The dense network's own module.
    spread
        For each dense input channel its position in the sliced input, or the number of those where removed.
    keep
        The output channels kept.
    """

    def __init__(self, leaf: nn.Module, spread: Tensor, keep: Tensor) -> None:
        super().__init__()
        self.leaf = leaf
        self.spread: Tensor
        self.keep: Tensor
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        zero = x.new_zeros(x.size(0), 1, *x.shape[2:])
        return self.leaf(torch.cat([x, zero], 1).index_select(1, self.spread)).index_select(1, self.keep)


class _ChannelMask(nn.Module):
    def __init__(self, leaf: nn.Module, removed: Tensor) -> None:
        super().__init__()
        self.leaf = leaf
        self.register_buffer("removed", removed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leaf(x.index_fill(1, self.removed, 0))


def _sliced(dense: Tensor, dims: tuple[Dim, ...], stay: Any, kept: Kept) -> Tensor:
    """Return a copy of the kept part of a tensor."""
    moved = [(axis, dim) for axis, dim in enumerate(dims) if not dim.units.isdisjoint(kept.keys())]
    grouped = next((axis for axis, dim in moved if dim.groups > 1), None)
    if grouped is not None:
        return _sliced_group(dense, dims, grouped, stay)
    # the dimension that shrinks most goes first, so that the least is moved twice
    indices = sorted(((stay(dim).to(dense.device), axis) for axis, dim in moved), key=lambda e: len(e[0]) / dense.size(e[1]))
    small = dense.detach()
    for index, axis in indices:
        small = small.index_select(axis, index)
    return small if indices else small.clone()


def _sliced_group(dense: Tensor, dims: tuple[Dim, ...], axis: int, stay: Any) -> Tensor:
    """Return the kept part of a grouped convolution's weight: every row has its own group's inputs."""
    rows = stay(dims[0])
    groups = dims[axis].groups
    inputs = stay(dims[axis]).reshape(groups, -1) % dense.size(axis)
    group_of = rows // (dense.size(0) // groups)
    return dense.detach()[rows[:, None].to(dense.device), inputs[group_of].to(dense.device)]


def _swap(module: nn.Module, name: str, replacement: nn.Module) -> nn.Module:
    """Put `replacement` in the place called `name` and return the whole module."""
    if not name:
        return replacement
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, replacement)
    return module


_SHARED = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device, torch.Size)


class _Skeleton:
    """A model's module tree without its tensors, copied for every candidate.

    Attributes that cannot change (numbers, strings) are shared; anything else is deep-copied with the tensors
    and modules already replaced, so that lists of modules or tied weights point into the copy.
    """

    def __init__(self, model: nn.Module) -> None:
        self._root = id(model)
        self._parts: list[tuple[nn.Module, dict[str, Any], list[str], list[str]]] = []
        for module in model.modules():
            shared, empty, other = {}, [], []
            for name, value in vars(module).items():
                if isinstance(value, _SHARED) or _is_plain_tuple(value):
                    shared[name] = value
                elif isinstance(value, dict | set | list) and not value:
                    empty.append(name)
                else:
                    other.append(name)
            self._parts.append((module, shared, empty, other))

    def copy(self, replaced: dict[int, Any]) -> nn.Module:
        """Return the copy; `replaced` maps the id of every dense tensor to its new one, and gains the modules."""
        for module, shared, empty, _ in self._parts:
            clone = object.__new__(type(module))
            clone.__dict__.update(shared)
            for name in empty:
                clone.__dict__[name] = type(vars(module)[name])()
            replaced[id(module)] = clone
        for module, _, _, other in self._parts:
            clone = replaced[id(module)]
            for name in other:
                clone.__dict__[name] = _mapped(vars(module)[name], replaced)
            _update_sizes(clone)
        return replaced[self._root]


def _is_plain_tuple(value: Any) -> bool:
    return type(value) is tuple and all(isinstance(part, _SHARED) for part in value)


def _mapped(value: Any, replaced: dict[int, Any]) -> Any:
    if type(value) is dict and all(id(part) in replaced or part is None for part in value.values()):
        return {key: None if part is None else replaced[id(part)] for key, part in value.items()}
    return copy.deepcopy(value, replaced)


def _update_sizes(module: nn.Module) -> None:
    """Make the size attributes of torch's own layers agree with their tensors."""
    weight = module._parameters.get("weight")
    if isinstance(module, nn.modules.conv._ConvNd) and weight is not None:
        _update_convolution(module, weight)
    elif isinstance(module, nn.Linear) and weight is not None:
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, nn.modules.batchnorm._NormBase):
        known = weight if weight is not None else module._buffers.get("running_mean")
        if known is not None:
            module.num_features = len(known)
    elif isinstance(module, nn.PReLU) and weight is not None:
        module.num_parameters = len(weight)
    elif isinstance(module, nn.Embedding) and weight is not None:
        module.embedding_dim = weight.size(1)


def _update_convolution(module: nn.modules.conv._ConvNd, weight: Tensor) -> None:
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    depthwise = module.groups > 1 and module.groups == module.in_channels
    if depthwise:
        # filters for each channel it reads
        per_channel = module.out_channels // module.in_channels
        module.groups = module.in_channels = weight.size(0) if transposed else weight.size(0) // per_channel
        module.out_channels = module.groups * per_channel
        return
    written, read = (1, 0) if transposed else (0, 1)
    module.out_channels = weight.size(written) * (module.groups if transposed else 1)
    module.in_channels = weight.size(read) * (1 if transposed else module.groups)
