"""From a graph of tied nodes to a Network: connected components become atoms, atoms alike become a unit."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import gcd, lcm

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from explorer.tracing.graph import Block, Graph, Use
from spaces import ChannelUnit, Dim, FixedChannels, Layer, Leaf, Network, Product, Reduction, Span, Tensor

__all__ = ["Atoms", "assemble", "dim_of", "find_atoms", "layer_name"]

Ints = npt.NDArray[np.int64]

# parameters from which torch's parametrisations, old and new, compute a weight
_COMPUTED = re.compile(r"\.(parametrizations\.weight\.original[01]?|weight(_v|_orig)?)$")


@dataclass
class Atoms:
    """For every node its unit (-1: fixed) and its atom's number in the unit."""

    unit: Ints
    atom: Ints
    units: list[ChannelUnit]
    fixed: list[FixedChannels]

    def alike(self, first: torch.Tensor, second: torch.Tensor) -> bool:
        """Tell whether two arrays of labels always keep the same channels."""
        a, b = (labels.numpy() for labels in torch.broadcast_tensors(first, second))
        pruned = self.unit[a] >= 0
        return bool((self.unit[a] == self.unit[b]).all() and (self.atom[a] == self.atom[b])[pruned].all())


def assemble(
    name: str,
    graph: Graph,
    atoms: Atoms,
    tensors: Mapping[str, torch.Tensor],
    leaves: Mapping[str, tuple[Block, Block]],
    buffers: set[str],
    batch: int,
) -> Network:
    """Return the Network of a traced model.

    Parameters
    ----------
    name
        The network's name.
    graph
        What the recorder learned.
    atoms
        What `find_atoms` made of it.
    tensors
        All parameters and buffers by name.
    leaves
        For every channel-moving leaf the blocks of its input and output channels.
    buffers
        The names in `tensors` that are buffers.
    batch
        Inputs in the example.
    """
    labelled: dict[str, dict[int, Dim]] = {}
    for block in graph.blocks.values():
        labelled.setdefault(block.tensor, {})[block.dim] = _dim(block, atoms)
    layers, products = [], [_product(*product, atoms) for product in graph.products]
    for weight, uses in graph.uses.items():
        positions = _positions(uses, tensors[weight].shape)
        if positions is None:
            products += _parts(graph, atoms, weight, tensors[weight].shape, uses)
        else:
            layers.append(Layer(layer_name(weight), uses[0].kind, weight, positions, uses[0].groups))
    counts = [*(layer.positions for layer in layers), *(product.flops for product in products)]
    common = gcd(batch, *counts)
    layers = [replace(layer, positions=layer.positions // common) for layer in layers]
    products = [replace(product, flops=product.flops // common) for product in products]
    return Network(
        name=name,
        units=tuple(atoms.units),
        fixed=tuple(atoms.fixed),
        tensors=tuple(
            Tensor(
                tensor_name,
                tuple(
                    labelled.get(tensor_name, {}).get(dim, Dim((Span(None, 0, length),)))
                    for dim, length in enumerate(tensor.shape)
                ),
                tensor.element_size(),
                tensor_name not in buffers,
            )
            for tensor_name, tensor in tensors.items()
        ),
        layers=tuple(layers),
        products=_summed(products),
        reductions=tuple(_reductions(graph, atoms)),
        inputs=batch // common,
        leaves=tuple(Leaf(leaf, _dim(reads, atoms), _dim(writes, atoms)) for leaf, (reads, writes) in leaves.items()),
    )


def _product(module: str, flops: int, nodes: Ints, atoms: Atoms) -> Product:
    """Return a product of activations with its dimension: the heads, if they can be pruned."""
    unit, atom = atoms.unit[nodes], atoms.atom[nodes]
    if not (unit >= 0).any():
        return Product(module, flops)
    heads, counts = np.unique(np.stack([unit, np.where(unit >= 0, atom, 0)]), axis=1, return_counts=True)
    # queries that share a key, and the inputs of a batch, are the same head several times
    unit, atom = np.repeat(heads, counts // np.gcd.reduce(counts), axis=1)
    return Product(module, flops // len(unit), (Dim(_run_lengths(unit, atom, atoms.units)),))


def _reductions(graph: Graph, atoms: Atoms) -> Iterator[Reduction]:
    """Yield the operations that run over channels of which some can be pruned."""
    for found in graph.reductions:
        dim = dim_of(found.nodes, atoms)
        if dim.units:
            yield Reduction(found.module, found.operator, found.number, found.axis, dim, found.divisor)


def dim_of(nodes: Ints, atoms: Atoms) -> Dim:
    """Return the dimension whose entries have these nodes."""
    return Dim(_run_lengths(atoms.unit[nodes], atoms.atom[nodes], atoms.units))


def _summed(products: Iterable[Product]) -> tuple[Product, ...]:
    """Return the products, those of the same module and dimensions as one."""
    flops: dict[tuple[str, tuple[Dim, ...]], int] = {}
    for product in products:
        key = product.name, product.dims
        flops[key] = flops.get(key, 0) + product.flops
    return tuple(Product(module, count, dims) for (module, dims), count in flops.items())


def _positions(uses: list[Use], shape: torch.Size) -> int | None:
    """Return how often every entry of a weight is multiplied; None if some are more often than others."""
    if uses[0].kind == "linear" and len(shape) > 2:
        # several matrices, such as those of experts
        return None
    if not any(use.cut for use in uses):
        return sum(use.positions for use in uses)
    total = np.zeros(shape, dtype=np.int64)
    for use in uses:
        total[tuple(slice(start, start + length) for start, length in use.cut)] += use.positions
    return int(total.flat[0]) if (total == total.flat[0]).all() else None


def _parts(graph: Graph, atoms: Atoms, weight: str, shape: torch.Size, uses: list[Use]) -> list[Product]:
    """Return the products of a linear weight whose parts are multiplied unequally often, as in cross-attention."""
    found = []
    for use in uses:
        cut = use.cut or [(0, length) for length in shape]
        dims = []
        for dim, (start, length) in enumerate(cut):
            block = graph.blocks.get((weight, dim))
            dims.append(
                Dim((Span(None, 0, length),))
                if block is None
                else _dim(Block(weight, dim, block.first + start, length), atoms)
            )
        found.append(Product(use.module, use.positions, tuple(dims)))
    return found


def find_atoms(graph: Graph, live: Collection[int]) -> Atoms:
    """Return the atoms and units of a graph: its connected components, and those alike.

    What steps that are not `live` did to channels fixes none.
    """
    edges, reasons = graph.edges, graph.reasons(live)
    component = _components(graph.size, edges)
    # of a view that divides channels either whole groups leave, as heads do, or equally many of every group
    ties = [_columns(rows) for rows in graph.splits if (component[rows] != component[rows][:, :1]).any()]
    edges = np.concatenate([edges, *ties])
    while True:
        component = _components(graph.size, edges)
        atoms, unclean = _units(graph, component, reasons)
        if not unclean:
            return atoms
        # a balance rule over a mixture of units: the i-th channels of all groups leave together
        edges = np.concatenate([edges, *map(_columns, unclean)])


def _columns(rows: Ints) -> Ints:
    """Return the edges that tie the entries of each column."""
    return np.stack([np.broadcast_to(rows[0], rows.shape).ravel(), rows.ravel()], 1)


def _components(size: int, edges: Ints) -> Ints:
    graph = coo_array((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _units(graph: Graph, component: Ints, node_reasons: Mapping[int, str]) -> tuple[Atoms, list[Ints]]:
    """Return units for these components, and the balance rules (as groups x channels nodes) they cannot express."""
    reasons: dict[int, str] = {}
    for node, reason in node_reasons.items():
        reasons.setdefault(int(component[node]), reason)
    first, signature = _describe(graph, component)
    writers = [block for block in graph.blocks.values() if block.writes]
    order = sorted({int(c) for block in writers for c in component[_span(block)]}, key=lambda c: first[c])
    alike: dict[int, list[int]] = {}
    for c in order:
        if c not in reasons:
            alike.setdefault(int(signature[c]), []).append(c)
    unit_of, atom_of = np.full(len(first), -1), np.zeros(len(first), dtype=np.int64)
    members = list(alike.values())
    for index, group in enumerate(members):
        unit_of[group], atom_of[group] = index, np.arange(len(group))
    groups = [1] * len(members)
    unclean = []
    for nodes, count in graph.balanced:
        ids = component[nodes].reshape(count, -1)
        if (ids == ids[0]).all():
            continue
        flat, index = ids.ravel(), int(unit_of[ids[0, 0]])
        if index >= 0 and flat.tolist() == members[index] and len(flat) % lcm(groups[index], count) == 0:
            groups[index] = lcm(groups[index], count)
        elif (unit_of[flat] >= 0).any():
            unclean.append(nodes.reshape(count, -1))
    units, fixed = _named(graph, component, members, groups, unit_of, reasons)
    drop = [i for i, unit in enumerate(units) if unit is None]
    unit_of[np.isin(unit_of, drop)] = -1
    kept = [unit for unit in units if unit is not None]
    renumber = np.cumsum([unit is not None for unit in units]) - 1 if units else np.empty(0, np.int64)
    unit_of = np.where(unit_of >= 0, renumber[unit_of], -1) if units else unit_of
    return Atoms(unit_of[component], atom_of[component], kept, fixed), unclean


def _describe(graph: Graph, component: Ints) -> tuple[Ints, npt.NDArray[np.uint64]]:
    """Return for each component its first written node and a hash of the dimensions it has entries in."""
    count = int(component.max()) + 1
    first = np.full(count, np.iinfo(np.int64).max)
    signature = np.zeros(count, dtype=np.uint64)
    rng = np.random.default_rng(0)
    for block in graph.blocks.values():
        ids = component[_span(block)]
        np.add.at(signature, ids, rng.integers(0, 2**63, dtype=np.uint64))
        if block.writes:
            np.minimum.at(first, ids, np.arange(block.first, block.first + block.length))
    return first, signature


def _named(
    graph: Graph, component: Ints, members: list[list[int]], groups: list[int], unit_of: Ints, reasons: dict[int, str]
) -> tuple[list[ChannelUnit | None], list[FixedChannels]]:
    """Return each unit (None where only one width is possible) and the fixed channels of every writer."""
    sizes: list[dict[str, int]] = [{} for _ in members]
    fixed: dict[tuple[str, str], int] = {}
    for block in graph.blocks.values():
        if not block.writes:
            continue
        layer = layer_name(block.tensor)
        ids = component[_span(block)]
        for index, count in zip(*np.unique(unit_of[ids], return_counts=True), strict=True):
            if index >= 0:
                sizes[index][layer] = sizes[index].get(layer, 0) + int(count)
        for c in ids[unit_of[ids] < 0].tolist():
            key = (layer, reasons.get(c, "written nowhere"))
            fixed[key] = fixed.get(key, 0) + 1
    units: list[ChannelUnit | None] = []
    taken: dict[str, int] = {}
    for size, group, balance in zip(sizes, members, groups, strict=True):
        layer, channels = next(iter(size.items()))
        if len(group) == balance:
            key = (layer, "all its channels can only leave together")
            fixed[key] = fixed.get(key, 0) + channels
            units.append(None)
            continue
        taken[layer] = taken.get(layer, 0) + 1
        name = layer if taken[layer] == 1 else f"{layer}#{taken[layer]}"
        units.append(ChannelUnit(name, channels, channels // len(group), balance, tuple(size)))
    return units, [FixedChannels(layer, channels, reason) for (layer, reason), channels in fixed.items()]


def _dim(block: Block, atoms: Atoms) -> Dim:
    span = _span(block)
    spans = _run_lengths(atoms.unit[span], atoms.atom[span], atoms.units)
    # with every input fixed the stored shape is all there is to know
    if block.groups > 1 and all(span.unit is None for span in spans):
        return Dim((Span(None, 0, block.length // block.groups),), reads=block.reads)
    return Dim(spans, block.groups, block.reads)


def _run_lengths(unit: Ints, atom: Ints, units: list[ChannelUnit]) -> tuple[Span, ...]:
    """Return the run-length code of a dimension's entries."""
    if not len(unit):
        return ()
    cuts = np.flatnonzero((np.diff(unit) != 0) | ((np.diff(atom) != 0) & (unit[1:] >= 0))) + 1
    starts = np.concatenate([[0], cuts])
    unit, atom, each = unit[starts], atom[starts], np.diff(np.append(starts, len(unit)))
    follows = (np.diff(unit) == 0) & (unit[1:] >= 0) & (np.diff(atom) == 1) & (np.diff(each) == 0)
    firsts = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    counts = np.diff(np.append(firsts, len(unit)))
    parts = zip(unit[firsts].tolist(), atom[firsts].tolist(), counts.tolist(), each[firsts].tolist(), strict=True)
    return tuple(Span(units[u].name, a, count, n) if u >= 0 else Span(None, 0, n) for u, a, count, n in parts)


def _span(block: Block) -> slice:
    return slice(block.first, block.first + block.length)


def layer_name(tensor: str) -> str:
    """Return the layer's name for its weight, also where the weight is computed from a tensor of that name."""
    return _COMPUTED.sub("", tensor)
