"""Exact costs of many recipes at once.

A tensor's entries are the product of its dimensions' kept widths, a width is linear in the steps kept of the
units, and a dropped block is a factor of 0: so every cost is a polynomial, evaluated here for an (n, axes) array
of choices. Products are made once for all costs, in blocks that stay in the processor's cache, and summed by one
matrix product. What a pattern keeps is no polynomial: it is tabulated over the choices it depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.axis import Axis
from spaces.gemm import Gemm, best_encoding, kept_entries
from spaces.granularity import kept_steps
from spaces.layers import Dim, Layer, Tensor
from spaces.network import Network
from spaces.recipe import Recipe

__all__ = ["COSTS", "CostModel", "costs_of", "counted", "dense_costs"]

COSTS = ("flops", "params", "bytes", "memory")
"""What is counted: multiply-adds for one input, non-zero parameters, bytes of parameters and buffers as exported, and,
where a network caches keys and values, the memory in bytes that these take and its weights."""

Ints = npt.NDArray[np.int64]
Key = tuple[str, str]

# 30 axes and 60 products of 4,096 float64 values: about the size of a second-level cache
_BLOCK = 4096
_TABLE = 1 << 16


@dataclass(frozen=True)
class Width:
    """A dimension's kept length: ``constant + sum(per_step * steps kept)``; also 1 or 0 for a block."""

    constant: int
    per_step: tuple[tuple[Key, int], ...] = ()


@dataclass(frozen=True)
class Term:
    """A product of widths with its coefficient in each cost of the network."""

    widths: tuple[Width, ...]
    coefficients: tuple[int, ...]


class CostModel:
    """The costs of recipes given as choices on axes: those of `COSTS` that the network has.

    Parameters
    ----------
    network
        The network whose costs are counted.
    axes
        The choices; units, weights and blocks without an axis stay dense.

    Notes
    -----
    Sums are made in float64, which is exact for integers up to 2**53; where the dense network exceeds that,
    in 64-bit integers.
    """

    def __init__(self, network: Network, axes: Sequence[Axis]) -> None:
        self._inputs = network.inputs
        self.names = counted(network)
        singles = [(place, one) for place, axis in enumerate(axes) for one in axis.addressed]
        self._place = {one.key: place for place, one in singles}
        self._values = {one.key: _values(network, one) for _, one in singles}
        self._sizes = [len(axis.choices) for axis in axes]
        self.dtype = np.float64 if _dense_flops(network) < 2**53 else np.int64
        patterned = {network.layer[one.name].weight: one for _, one in singles if one.part == "weights"}
        terms = _terms(network, self._place.keys(), patterned.keys())
        widths = sorted({width for term in terms for width in term.widths}, key=repr)
        self._tables = [
            (width.constant, [(self._place[key], self._steps(key) * each) for key, each in width.per_step])
            for width in widths
        ]
        position = {width: i for i, width in enumerate(widths)}
        variable = [term for term in terms if term.widths]
        self._factors = [tuple(position[width] for width in term.widths) for term in variable]
        self._coefficients = (
            np.array([term.coefficients for term in variable], dtype=self.dtype).reshape(-1, len(self.names)).T
        )
        constant = [term.coefficients for term in terms if not term.widths]
        self._constant = np.array(constant, dtype=np.int64).reshape(-1, len(self.names)).sum(0)
        self._masked = [
            _Masked(network, network.layer[one.name], one, self._place, self._values) for one in patterned.values()
        ]

    def __call__(self, rows: npt.NDArray) -> dict[str, Ints]:
        """Return each cost as an int64 array of length n.

        Parameters
        ----------
        rows
            (n, axes) integer array of choices.
        """
        out = np.empty((len(self.names), len(rows)), dtype=np.int64)
        products = np.empty((len(self._factors), _BLOCK), dtype=self.dtype)
        for start in range(0, len(rows), _BLOCK):
            block = np.ascontiguousarray(rows[start : start + _BLOCK].T)
            widths = [self._width(block, *table) for table in self._tables]
            for i, (first, *rest) in enumerate(self._factors):
                product = products[i, : block.shape[1]]
                product[:] = widths[first]
                for other in rest:
                    product *= widths[other]
            total = self._coefficients @ products[:, : block.shape[1]]
            part = out[:, start : start + _BLOCK]
            part[:] = total + self._constant[:, None]
            for masked in self._masked:
                part += masked(block)
            if self._inputs > 1:
                part[0] //= self._inputs
        return dict(zip(self.names, out, strict=True))

    def parts(self, metric: str) -> dict[tuple[int, ...], Ints] | None:
        """Return a cost as a sum of tables, each over the choices of a few axes; None if one has too many entries.

        Keys are places of axes, ascending; a table has a dimension for each of them. The constant has none.
        """
        which, sizes = self.names.index(metric), self._sizes
        out: dict[tuple[int, ...], Ints] = {(): np.array(self._constant[which])}
        for factors, coefficient in zip(self._factors, self._coefficients[which], strict=True):
            scope = tuple(sorted({axis for i in factors for axis, _ in self._tables[i][1]}))
            if prod(sizes[axis] for axis in scope) > _TABLE:
                return None
            product = np.array(int(coefficient), dtype=np.int64)
            for i in factors:
                constant, summed = self._tables[i]
                width = np.array(constant, dtype=np.int64)
                for axis, table in summed:
                    spread = [-1 if axis == other else 1 for other in scope]
                    width = width + table.astype(np.int64).reshape(spread)
                product = product * width
            out[scope] = out.get(scope, 0) + product
        for masked in self._masked:
            scope, costs = masked.table(which)
            if costs is None:
                return None
            out[scope] = out.get(scope, 0) + costs
        return out

    def _steps(self, key: Key) -> npt.NDArray:
        return np.asarray(self._values[key], dtype=self.dtype)

    def _width(self, block: npt.NDArray, constant: int, parts: list[tuple[int, npt.NDArray]]) -> npt.NDArray:
        axis, table = parts[0]
        width = table.take(block[axis])
        for axis, table in parts[1:]:
            width += table.take(block[axis])
        if constant:
            width += constant
        return width


class _Masked:
    """What the weight of one layer costs, by the choices of all axes that it depends on."""

    def __init__(
        self, network: Network, layer: Layer, axis: Axis, place: Mapping[Key, int], values: Mapping[Key, Sequence[Any]]
    ) -> None:
        tensor = network.tensor[layer.weight]
        self._gemm = Gemm.of(network, layer)
        self._costs_counted = len(counted(network))
        self._widths = [_width(network, dim, place.keys()) for dim in tensor.dims]
        self._alive = _alive(network, tensor.name, place.keys())
        keys = [axis.key, *(key for width in (*self._widths, *self._alive) for key, _ in width.per_step)]
        # several keys of one axis, where it ties them
        self._axes = list(dict.fromkeys(place[key] for key in keys))
        self._patterns = values[axis.key]
        self._steps = {key: (self._axes.index(place[key]), values[key]) for key in keys if key != axis.key}
        self._itemsize = tensor.itemsize
        self._positions = layer.positions
        shape = [len(values[next(key for key in keys if place[key] == i)]) for i in self._axes]
        self._shape = shape
        self._strides = [prod(shape[i + 1 :]) for i in range(len(shape))]
        self._table: Ints | None = None
        if prod(shape) <= _TABLE:
            self._table = self._costs(np.stack(np.unravel_index(np.arange(prod(shape)), shape)))

    def __call__(self, block: npt.NDArray) -> Ints:
        """Return the (costs, n) costs of an (axes, n) block of choices."""
        if self._table is None:
            return self._costs(block[self._axes])
        index = block[self._axes[0]].astype(np.int64) * self._strides[0]
        for axis, stride in zip(self._axes[1:], self._strides[1:], strict=True):
            index += block[axis].astype(np.int64) * stride
        return self._table.take(index, axis=1)

    def table(self, which: int) -> tuple[tuple[int, ...], Ints | None]:
        """Return the places of the axes, ascending, and one of the costs over their choices; None if too many."""
        order = np.argsort(self._axes)
        scope = tuple(int(self._axes[i]) for i in order)
        if self._table is None:
            return scope, None
        return scope, self._table[which].reshape(self._shape).transpose(order)

    def _costs(self, chosen: npt.NDArray) -> Ints:
        """Return the (costs, n) costs of the (axes, n) choices of the axes the layer depends on, its own first."""
        known = {key: np.asarray(values, dtype=np.int64)[chosen[i]] for key, (i, values) in self._steps.items()}

        def evaluated(width: Width) -> Any:
            return width.constant + sum(each * known[key] for key, each in width.per_step)

        count = chosen.shape[1]
        lengths = [np.broadcast_to(evaluated(width), count) for width in self._widths]
        alive = prod((evaluated(width) for width in self._alive), start=np.ones(count, dtype=np.int64))
        out = np.empty((self._costs_counted, count), dtype=np.int64)
        for choice, pattern in enumerate(self._patterns):
            mine = np.flatnonzero(chosen[0] == choice)
            sizes = self._gemm.matrices([length[mine] for length in lengths[:2]])
            if pattern is None:
                kept = sizes.entries
                stored = kept * self._itemsize
            else:
                kept = kept_entries(pattern, sizes)
                stored, _ = best_encoding(pattern, sizes, kept, self._itemsize)
            each = [kept * self._positions, kept, stored, stored]
            out[:, mine] = np.stack(each[: self._costs_counted]) * alive[mine]
        return out


def counted(network: Network) -> tuple[str, ...]:
    """Return those of `COSTS` that a network has."""
    return COSTS if network.caches else COSTS[:-1]


def costs_of(network: Network, recipe: Recipe) -> dict[str, int]:
    """Return the costs of one recipe of any space of `network`."""
    axes = [
        *(Axis("channels", unit, (ratio,)) for unit, ratio in recipe.channels),
        *(Axis("weights", layer, (pattern,)) for layer, pattern in recipe.weights),
        *(Axis("blocks", block, (0,)) for block in recipe.blocks),
    ]
    costs = CostModel(network, axes)(np.zeros((1, len(axes)), dtype=np.int16))
    return {name: int(value[0]) for name, value in costs.items()}


def dense_costs(network: Network) -> dict[str, int]:
    """Return the costs of the dense network."""
    return costs_of(network, Recipe())


def _values(network: Network, axis: Axis) -> list[Any]:
    """Return the factors that the choices of an axis are in a cost: steps kept, 1 or 0 for a block, or patterns."""
    if axis.part == "channels":
        return [kept_steps(ratio, network.unit[axis.name].steps) for ratio in axis.choices]  # type: ignore[arg-type]
    return list(axis.choices)


def _dense_flops(network: Network) -> int:
    """Return the dense network's multiply-adds or, if more, its memory, in Python's unbounded integers."""
    held = (*network.tensors, *network.caches)
    sizes = {tensor.name: prod(dim.length for dim in tensor.dims) for tensor in held}
    flops = sum(layer.positions * sizes[layer.weight] for layer in network.layers)
    flops += sum(product.flops * prod(dim.length for dim in product.dims) for product in network.products)
    return max(flops, sum(tensor.itemsize * sizes[tensor.name] for tensor in held))


def _terms(network: Network, free: Any, patterned: Any) -> list[Term]:
    """Return the cost polynomial over the `free` (part, name) keys, one term a distinct product.

    Weights that can have a pattern are left out.
    """
    positions: dict[str, int] = {}
    for layer in network.layers:
        positions[layer.weight] = positions.get(layer.weight, 0) + layer.positions
    items: list[tuple[str, tuple[Dim, ...], tuple[int, ...]]] = [
        (product.name, product.dims, (product.flops, 0, 0, 0)) for product in network.products
    ]
    items += [(tensor.name, tensor.dims, _coefficients(tensor, positions)) for tensor in network.tensors]
    items += [(cached.name, cached.dims, (0, 0, 0, cached.itemsize)) for cached in network.caches]
    summed: dict[tuple[Width, ...], npt.NDArray] = {}
    for name, dims, each in items:
        if name in patterned:
            continue
        coefficients = np.array(each[: len(counted(network))], dtype=object)
        widths = _alive(network, name, free)
        for dim in dims:
            width = _width(network, dim, free)
            if width.per_step:
                widths.append(width)
            else:
                coefficients = coefficients * width.constant
        key = tuple(sorted(widths, key=repr))
        summed[key] = summed.get(key, 0) + coefficients
    return [Term(widths, tuple(int(value) for value in coefficients)) for widths, coefficients in summed.items()]


def _coefficients(tensor: Tensor, positions: Mapping[str, int]) -> tuple[int, ...]:
    return positions.get(tensor.name, 0), int(tensor.parameter), tensor.itemsize, tensor.itemsize


def _alive(network: Network, name: str, free: Any) -> list[Width]:
    """Return a factor for each block that holds `name` and can be dropped."""
    return [
        Width(0, ((("blocks", block.name), 1),))
        for block in network.droppable
        if ("blocks", block.name) in free and block.holds(name)
    ]


def _width(network: Network, dim: Dim, free: Any) -> Width:
    constant = 0
    entries: dict[str, int] = {}
    for span in dim.spans:
        if span.unit is None:
            constant += span.entries
        else:
            entries[span.unit] = entries.get(span.unit, 0) + span.entries
    per_step = {}
    for unit, count in entries.items():
        if ("channels", unit) in free:
            per_step["channels", unit] = count // (network.unit[unit].steps * dim.groups)
        else:
            constant += count
    return Width(constant // dim.groups, tuple(sorted(per_step.items())))
