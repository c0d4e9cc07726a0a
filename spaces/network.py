"""Network: the units and layers of one model, all that pruning needs to know of it.

Tracing writes a Network once; spaces, costs and surgery only read it. It holds no weights and no module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import PruningError, first_line

__all__ = [
    "BlockUnit",
    "ChannelUnit",
    "Dim",
    "FixedBlock",
    "FixedChannels",
    "Layer",
    "Leaf",
    "Network",
    "Product",
    "Reduction",
    "Run",
    "Tensor",
]


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


@dataclass(frozen=True)
class FixedChannels:
    """Output channels of a layer that cannot be pruned, and why."""

    name: str
    channels: int
    reason: str


@dataclass(frozen=True)
class Run:
    """`count` consecutive atoms of a unit from `start` on, each taking `each` entries; unit None: fixed entries."""

    unit: str | None
    start: int
    count: int
    each: int = 1

    @property
    def entries(self) -> int:
        return self.count * self.each


@dataclass(frozen=True)
class Dim:
    """Which unit every entry of one tensor dimension belongs to.

    Parameters
    ----------
    runs
        The entries in order.
    groups
        Above 1 for the input dimension of a grouped convolution: `runs` then covers all input channels, of
        which the tensor stores ``1 / groups`` for each output row.
    reads
        Whether the dimension consumes the channels (a layer's input). Masking a channel zeroes its readers.
    """

    runs: tuple[Run, ...]
    groups: int = 1
    reads: bool = False

    @cached_property
    def length(self) -> int:
        """Entries of the tensor along the dimension, dense."""
        return sum(run.entries for run in self.runs) // self.groups

    @cached_property
    def units(self) -> frozenset[str]:
        return frozenset(run.unit for run in self.runs if run.unit is not None)


@dataclass(frozen=True)
class Tensor:
    """A parameter or buffer: its dimensions, bytes an entry and whether it counts as a parameter."""

    name: str
    dims: tuple[Dim, ...]
    itemsize: int = 4
    parameter: bool = True

    @property
    def units(self) -> frozenset[str]:
        return frozenset().union(*(dim.units for dim in self.dims))


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: each entry of `weight` is multiplied `positions` times for the network's `inputs`.

    Its weight is a *weight unit*: a GEMM matrix for each of the convolution's `groups`, on which a pattern can be
    put. `kind` is ``linear``, ``conv`` or ``conv_transposed``.
    """

    name: str
    kind: str
    weight: str
    positions: int
    groups: int = 1


@dataclass(frozen=True)
class Product:
    """Multiply-adds that no weight explains: attention products, convolutions with computed weights.

    For the network's `inputs` there are `flops` times the product of the dimensions' kept lengths. `name` is the module
    in which they are made.
    """

    name: str
    flops: int
    dims: tuple[Dim, ...] = ()


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
    """

    name: str
    returns: int | str | tuple[int | str | None, ...] = 0

    def holds(self, name: str) -> bool:
        """Tell whether a tensor, layer or module of that name lies inside the block."""
        return name.startswith(self.name + ".") or name == self.name


@dataclass(frozen=True)
class FixedBlock:
    """A residual block that cannot be dropped, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Leaf:
    """A module without parameters that moves channels (an option-A shortcut); surgery slices its index map."""

    name: str
    reads: Dim
    writes: Dim


@dataclass(frozen=True)
class Reduction:
    """An operation that runs over channels as a whole: a norm, a softmax, a mean. Masked, it runs over the kept ones.

    Parameters
    ----------
    module
        The innermost module that runs it.
    operator
        Its ATen name, without overload.
    number
        How often that operator ran in that module before, in one run of the model.
    axis
        The dimension of its input along which the channels lie.
    dim
        What these channels are.
    divisor
        For a sum of n entries that is then divided by ``n - divisor``, which makes it a mean or a variance;
        None for anything else.
    """

    module: str
    operator: str
    number: int
    axis: int
    dim: Dim
    divisor: int | None = None


@dataclass(frozen=True)
class Network:
    """Units, layers, blocks and tensors of one model; immutable and free of weights.

    The positions of layers and the multiply-adds of products are those of `inputs` inputs: of more than one where they
    can't be divided by it, as those of experts among which a router distributes a batch. Costs are those of one input.

    Examples
    --------
    >>> wide = Dim((Run("conv", 0, 8),))
    >>> net = Network(
    ...     name="tiny",
    ...     units=(ChannelUnit("conv", 8, writers=("conv",)),),
    ...     tensors=(Tensor("conv.weight", (wide, Dim((Run(None, 0, 3),), reads=True))),),
    ...     layers=(Layer("conv", "conv", "conv.weight", positions=16),),
    ... )
    >>> Network.from_yaml(net.to_yaml()) == net
    True
    """

    name: str
    units: tuple[ChannelUnit, ...] = ()
    fixed: tuple[FixedChannels, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    layers: tuple[Layer, ...] = ()
    leaves: tuple[Leaf, ...] = ()
    products: tuple[Product, ...] = ()
    reductions: tuple[Reduction, ...] = ()
    blocks: tuple[BlockUnit, ...] = ()
    fixed_blocks: tuple[FixedBlock, ...] = ()
    inputs: int = 1

    @cached_property
    def unit(self) -> Mapping[str, ChannelUnit]:
        """Units by name."""
        return {unit.name: unit for unit in self.units}

    @cached_property
    def tensor(self) -> Mapping[str, Tensor]:
        """Tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def layer(self) -> Mapping[str, Layer]:
        """Layers by name."""
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def block(self) -> Mapping[str, BlockUnit]:
        """Blocks by name."""
        return {block.name: block for block in self.blocks}

    @cached_property
    def enclosing(self) -> Mapping[str, tuple[str, ...]]:
        """For every unit the blocks that hold all of it: without one of them the unit decides nothing."""
        homes: dict[str, list[str]] = {unit.name: [] for unit in self.units}
        for tensor in self.tensors:
            for name in tensor.units:
                homes[name].append(tensor.name)
        for leaf in self.leaves:
            for name in leaf.reads.units | leaf.writes.units:
                homes[name].append(leaf.name)
        return {
            unit: tuple(block.name for block in self.blocks if names and all(map(block.holds, names)))
            for unit, names in homes.items()
        }

    @cached_property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that change with anything in the network but its name."""
        body = {key: value for key, value in self._plain().items() if key != "name"}
        return hashlib.sha256(_dump(body).encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """Return the network as YAML text, read back by `from_yaml`."""
        return _dump(self._plain())

    def _plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "inputs": self.inputs,
            "units": [vars(unit) | {"writers": list(unit.writers)} for unit in self.units],
            "fixed": [[entry.name, entry.channels, entry.reason] for entry in self.fixed],
            "blocks": [[b.name, list(b.returns) if isinstance(b.returns, tuple) else b.returns] for b in self.blocks],
            "fixed_blocks": [[entry.name, entry.reason] for entry in self.fixed_blocks],
            "layers": [[entry.name, entry.kind, entry.weight, entry.positions, entry.groups] for entry in self.layers],
            "products": [[entry.name, entry.flops, *map(_plain_dim, entry.dims)] for entry in self.products],
            "leaves": [[leaf.name, _plain_dim(leaf.reads), _plain_dim(leaf.writes)] for leaf in self.leaves],
            "tensors": [
                [t.name, "parameter" if t.parameter else "buffer", t.itemsize, *map(_plain_dim, t.dims)]
                for t in self.tensors
            ],
            # a network without any keeps the identity it had before there were reductions
            **({"reductions": [_plain_reduction(entry) for entry in self.reductions]} if self.reductions else {}),
        }

    @classmethod
    def from_yaml(cls, text: str) -> Network:
        """Return the network that `to_yaml` wrote.

        Raises
        ------
        PruningError
            If the text is no such file.
        """
        try:
            plain = yaml.load(text, Loader=_LOADER)
            return cls(
                name=plain["name"],
                inputs=plain["inputs"],
                units=tuple(ChannelUnit(**u | {"writers": tuple(u["writers"])}) for u in plain["units"]),
                fixed=tuple(FixedChannels(*entry) for entry in plain["fixed"]),
                blocks=tuple(BlockUnit(name, tuple(r) if isinstance(r, list) else r) for name, r in plain["blocks"]),
                fixed_blocks=tuple(FixedBlock(*entry) for entry in plain["fixed_blocks"]),
                products=tuple(Product(n, flops, tuple(map(_dim, dims))) for n, flops, *dims in plain["products"]),
                reductions=tuple(
                    Reduction(module, operator, number, axis, _dim(dim), divisor)
                    for module, operator, number, axis, divisor, dim in plain.get("reductions", ())
                ),
                layers=tuple(Layer(*layer) for layer in plain["layers"]),
                leaves=tuple(Leaf(name, _dim(reads), _dim(writes)) for name, reads, writes in plain["leaves"]),
                tensors=tuple(
                    Tensor(name, tuple(map(_dim, dims)), itemsize, kind == "parameter")
                    for name, kind, itemsize, *dims in plain["tensors"]
                ),
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise PruningError(f"network: not a network file ({first_line(error)})") from None

    def save(self, path: str | Path) -> None:
        """Write the network to `path` as YAML."""
        Path(path).write_text(self.to_yaml())

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Return the network stored at `path`."""
        return cls.from_yaml(Path(path).read_text())


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def _dump(plain: dict[str, Any]) -> str:
    return yaml.dump(plain, Dumper=_DUMPER, sort_keys=False, default_flow_style=None, width=110)


def _plain_dim(dim: Dim) -> dict[str, Any]:
    """Return a dim as a small mapping: a fixed run is its length, another is [unit, start, count, each]."""
    runs = [run.entries if run.unit is None else [run.unit, run.start, run.count, run.each] for run in dim.runs]
    plain: dict[str, Any] = {"runs": runs}
    if dim.groups > 1:
        plain["groups"] = dim.groups
    if dim.reads:
        plain["reads"] = True
    return plain


def _plain_reduction(entry: Reduction) -> list[Any]:
    return [entry.module, entry.operator, entry.number, entry.axis, entry.divisor, _plain_dim(entry.dim)]


def _dim(plain: dict[str, Any]) -> Dim:
    runs = tuple(Run(None, 0, run) if isinstance(run, int) else Run(*run) for run in plain["runs"])
    return Dim(runs, plain.get("groups", 1), plain.get("reads", False))
