"""Network: the units and layers of one model, all that pruning needs to know of it.

Tracing writes a Network once; spaces, costs and surgery only read it. It holds no weights and no module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import PruningError, first_line
from spaces.layers import Dim, Layer, Leaf, Product, Reduction, Size, Span, Tensor
from spaces.units import BlockUnit, ChannelUnit, FixedBlock, FixedChannels

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """Units, layers, blocks and tensors of one model; immutable and free of weights.

    The positions of layers and the multiply-adds of products are those of `inputs` inputs: of more than one where they
    can't be divided by it, as those of experts among which a router distributes a batch. Costs are those of one input.

    `caches` are the keys and values that a language model holds of the `context`, as many sequences of as many tokens;
    each is named after the module that makes it.

    Examples
    --------
    >>> wide = Dim((Span("conv", 0, 8),))
    >>> net = Network(
    ...     name="tiny",
    ...     units=(ChannelUnit("conv", 8, writers=("conv",)),),
    ...     tensors=(Tensor("conv.weight", (wide, Dim((Span(None, 0, 3),), reads=True))),),
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
    sizes: tuple[Size, ...] = ()
    blocks: tuple[BlockUnit, ...] = ()
    fixed_blocks: tuple[FixedBlock, ...] = ()
    halves: tuple[BlockUnit, ...] = ()
    inputs: int = 1
    caches: tuple[Tensor, ...] = ()
    context: tuple[int, int] = (0, 0)

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
        """Blocks and halves of blocks by name."""
        return {block.name: block for block in self.droppable}

    @property
    def droppable(self) -> tuple[BlockUnit, ...]:
        """Blocks and halves of blocks."""
        return self.blocks + self.halves

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
            unit: tuple(block.name for block in self.droppable if names and all(map(block.holds, names)))
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
        plain: dict[str, Any] = {
            "name": self.name,
            "inputs": self.inputs,
            "units": [vars(unit) | {"writers": list(unit.writers)} for unit in self.units],
            "fixed": [[entry.name, entry.channels, entry.reason] for entry in self.fixed],
            "blocks": _plain_blocks(self.blocks),
            "fixed_blocks": [[entry.name, entry.reason] for entry in self.fixed_blocks],
            "layers": [[entry.name, entry.kind, entry.weight, entry.positions, entry.groups] for entry in self.layers],
            "products": [[entry.name, entry.flops, *map(_plain_dim, entry.dims)] for entry in self.products],
            "leaves": [[leaf.name, _plain_dim(leaf.reads), _plain_dim(leaf.writes)] for leaf in self.leaves],
            "tensors": [
                [t.name, "parameter" if t.parameter else "buffer", t.itemsize, *map(_plain_dim, t.dims)]
                for t in self.tensors
            ],
            "reductions": [_plain_reduction(entry) for entry in self.reductions],
            "sizes": [[size.module, size.attribute, size.place, _plain_dim(size.dim)] for size in self.sizes],
        }
        # most networks have none
        if self.halves:
            plain["halves"] = _plain_blocks(self.halves)
        if self.caches:
            plain["context"] = list(self.context)
            plain["caches"] = [[held.name, held.itemsize, *map(_plain_dim, held.dims)] for held in self.caches]
        return plain

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
                halves=tuple(
                    BlockUnit(n, tuple(r) if isinstance(r, list) else r, True) for n, r in plain.get("halves", ())
                ),
                products=tuple(Product(n, flops, tuple(map(_dim, dims))) for n, flops, *dims in plain["products"]),
                reductions=tuple(
                    Reduction(module, operator, number, axis, _dim(dim), divisor)
                    for module, operator, number, axis, divisor, dim in plain["reductions"]
                ),
                sizes=tuple(Size(module, name, place, _dim(dim)) for module, name, place, dim in plain["sizes"]),
                layers=tuple(Layer(*layer) for layer in plain["layers"]),
                leaves=tuple(Leaf(name, _dim(reads), _dim(writes)) for name, reads, writes in plain["leaves"]),
                tensors=tuple(
                    Tensor(name, tuple(map(_dim, dims)), itemsize, kind == "parameter")
                    for name, kind, itemsize, *dims in plain["tensors"]
                ),
                context=tuple(plain.get("context", (0, 0))),
                caches=tuple(
                    Tensor(name, tuple(map(_dim, dims)), itemsize, False)
                    for name, itemsize, *dims in plain.get("caches", ())
                ),
            )
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise PruningError(f"network: not a network file ({first_line(error)})") from None

    def __repr__(self) -> str:
        units, blocks, layers = len(self.units), len(self.blocks), len(self.layers)
        return f"<Network {self.name}: {units} channel units, {blocks} blocks, {layers} layers>"

    def _repr_html_(self) -> str:
        from spaces.html import network_html

        return network_html(self)

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


def _plain_blocks(blocks: Iterable[BlockUnit]) -> list[list[Any]]:
    return [
        [block.name, list(block.returns) if isinstance(block.returns, tuple) else block.returns] for block in blocks
    ]


def _plain_dim(dim: Dim) -> dict[str, Any]:
    """Return a dim as a small mapping: a fixed span is its length, another is [unit, start, count, each]."""
    spans = [
        span.entries if span.unit is None else [span.unit, span.start, span.count, span.each] for span in dim.spans
    ]
    plain: dict[str, Any] = {"spans": spans}
    if dim.groups > 1:
        plain["groups"] = dim.groups
    if dim.reads:
        plain["reads"] = True
    return plain


def _plain_reduction(entry: Reduction) -> list[Any]:
    return [entry.module, entry.operator, entry.number, entry.axis, entry.divisor, _plain_dim(entry.dim)]


def _dim(plain: dict[str, Any]) -> Dim:
    spans = tuple(Span(None, 0, span) if isinstance(span, int) else Span(*span) for span in plain["spans"])
    return Dim(spans, plain.get("groups", 1), plain.get("reads", False))
