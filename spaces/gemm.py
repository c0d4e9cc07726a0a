"""A layer's weight seen as GEMM matrices: their sizes, the patterns they allow, the entries that patterns keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.granularity import Pattern, kept_steps, rounded
from spaces.layers import Layer
from spaces.network import Network

__all__ = ["ENCODINGS", "Gemm", "Matrices", "best_encoding", "kept_entries"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Matrices:
    """Sizes of a layer's matrices, numbers or arrays of them.

    Parameters
    ----------
    rows
        K of each matrix: kernel positions times input channels of a group.
    columns
        Output channels of all matrices together: groups times N.
    groups
        Number of matrices.
    kernel
        Kernel positions.
    """

    rows: Any
    columns: Any
    groups: Any = 1
    kernel: int = 1

    @property
    def entries(self) -> Any:
        """Weights of all matrices together."""
        return self.rows * self.columns


@dataclass(frozen=True)
class Gemm:
    """How one layer's weight tensor becomes matrices.

    Parameters
    ----------
    layer
        The layer.
    reads
        The tensor's dimension along which input channels lie; None where each filter reads one channel only.
    writes
        The dimensions whose lengths' product is the number of columns.
    kernel
        Kernel positions.
    lengths
        Of the dense tensor's dimensions.
    trained
        Whether the weight is a parameter; else it is a buffer.
    """

    layer: Layer
    reads: int | None
    writes: tuple[int, ...]
    kernel: int
    lengths: tuple[int, ...]
    trained: bool = True

    @classmethod
    def of(cls, network: Network, layer: Layer) -> Gemm:
        """Return the matrices of a layer of `network`."""
        tensor = network.tensor[layer.weight]
        dims = tensor.dims
        lengths = tuple(dim.length for dim in dims)
        kernel = prod(lengths[2:])
        first = layer.kind == "conv_transposed" or (layer.kind == "linear" and dims[0].reads)
        reads = 0 if first else 1
        if layer.groups > 1 and (layer.kind == "conv_transposed" or lengths[1] == 1):
            return cls(layer, None, (0, 1), kernel, lengths, tensor.parameter)
        return cls(layer, reads, (1 - reads,), kernel, lengths, tensor.parameter)

    @property
    def depthwise(self) -> bool:
        """Whether every filter reads one channel."""
        return self.reads is None

    @property
    def dense(self) -> Matrices:
        """The sizes of the dense layer's matrices."""
        return self.matrices(self.lengths)

    def matrices(self, lengths: Sequence[Any]) -> Matrices:
        """Return the sizes where the tensor's first two dimensions have these lengths (numbers or arrays)."""
        columns = prod(lengths[dim] for dim in self.writes)
        if self.reads is None:
            return Matrices(self.kernel, columns, lengths[0], self.kernel)
        return Matrices(self.kernel * lengths[self.reads], columns, self.layer.groups, self.kernel)

    def refuses(self, granularity: str) -> str | None:
        """Return why the layer cannot have a pattern of this granularity, or None."""
        if not self.trained:
            return "its weight is a buffer, not a parameter"
        if self.depthwise and granularity not in ("element", "kernel"):
            return "of the patterns a depthwise convolution allows element and kernel only"
        return None

    def clamped(self, pattern: Pattern) -> Pattern:
        """Return the pattern with blocks and tiles no larger than the layer: equal ones keep the same of it."""
        sizes = self.dense
        return replace(
            pattern,
            height=min(pattern.height, sizes.rows),
            width=min(pattern.width, sizes.columns // sizes.groups),
        )

    def canonical(self, pattern: Pattern) -> Pattern | None:
        """Return the one spelling of all patterns that keep the same of the dense layer; None: all of it."""
        if pattern.granularity == "kernel" and self.kernel == 1:
            pattern = Pattern("element", pattern.ratio)
        if pattern.granularity == "block" and pattern.height == pattern.width == 1:
            pattern = Pattern("element", pattern.ratio)
        if pattern.granularity == "tile_vector" and pattern.n == pattern.m:
            pattern = Pattern("tile", pattern.ratio, width=pattern.width)
        if pattern.granularity == "tile_vector" and pattern.ratio == rounded(pattern.n / pattern.m):
            pattern = Pattern("vector", pattern.ratio, n=pattern.n, m=pattern.m)
        if pattern.per == "output" and self.dense.columns == 1:
            pattern = replace(pattern, per="layer")
        if pattern.ratio >= 1 or kept_entries(pattern, self.dense) == self.dense.entries:
            return None
        units = _equal_units(pattern, self.dense)
        if units is None:
            return pattern
        kept = kept_steps(pattern.ratio, units)
        if kept == units:
            return None
        # where six digits name the count it is what both spellings have in common
        ratio = rounded(kept / units)
        return replace(pattern, ratio=ratio) if kept_steps(ratio, units) == kept else pattern


def _equal_units(pattern: Pattern, sizes: Matrices) -> int | None:
    """Return how many units of one size a pattern chooses among; None where sizes differ or are not chosen so."""
    if pattern.granularity == "element":
        return sizes.entries if pattern.per == "layer" else sizes.rows
    if pattern.granularity == "kernel":
        return sizes.entries // sizes.kernel
    if pattern.granularity == "block":
        rows, columns = sizes.rows, sizes.columns // sizes.groups
        whole = (rows <= pattern.height or rows % pattern.height == 0) and (
            columns <= pattern.width or columns % pattern.width == 0
        )
        return int(_blocks(pattern, sizes)) if whole else None
    return None


def kept_entries(pattern: Pattern, sizes: Matrices) -> Any:
    """Return how many weights a pattern keeps, by DESIGN.md's rules.

    Exact for element, vector and kernel; blocks and tiles differ in size, and count as ``ratio * K * N``.

    Parameters
    ----------
    pattern
        The pattern.
    sizes
        The matrices; numbers or arrays.
    """
    if pattern.granularity == "vector":
        whole, tail = np.divmod(sizes.rows, pattern.m)
        return (whole * pattern.n + -(-pattern.n * tail // pattern.m)) * sizes.columns
    if pattern.per == "output":
        return np.maximum(1, np.floor(pattern.ratio * sizes.rows + 0.5).astype(np.int64)) * sizes.columns
    unit = sizes.kernel if pattern.granularity == "kernel" else 1
    units = sizes.entries // unit
    return np.maximum(1, np.floor(pattern.ratio * units + 0.5).astype(np.int64)) * unit


def _dense(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int) -> Any:
    return sizes.entries * itemsize


def _bitmap(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int) -> Any:
    return _bits(sizes.entries) + kept * itemsize


def _csr(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int) -> Any:
    return 4 * (sizes.columns + 1) + kept * (np.where(np.asarray(sizes.rows) <= 1 << 16, 2, 4) + itemsize)


def _vector(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int) -> Any:
    return _bits(kept * (pattern.m - 1).bit_length()) + kept * itemsize


def _kernel(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int) -> Any:
    return _bits(sizes.entries // sizes.kernel) + kept * itemsize


def _block(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int) -> Any:
    return _bits(_blocks(pattern, sizes)) + kept * itemsize


def _tile(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int, tiles: Any = None) -> Any:
    if tiles is None:
        inner = pattern.ratio * pattern.m / pattern.n if pattern.n else pattern.ratio
        columns = np.ceil(np.sqrt(inner) * sizes.columns)
        tiles = np.ceil(columns / pattern.width).astype(np.int64)
    return _bits(sizes.columns) + _bits(tiles * sizes.rows) + kept * itemsize


def _tile_vector(pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int, tiles: Any = None) -> Any:
    return _tile(pattern, sizes, kept, itemsize, tiles) + _bits(kept * (pattern.m - 1).bit_length())


ENCODINGS: Mapping[str, Callable[..., Any]] = {
    "dense": _dense,
    "bitmap": _bitmap,
    "csr": _csr,
    "vector": _vector,
    "kernel": _kernel,
    "block": _block,
    "tile": _tile,
    "tile_vector": _tile_vector,
}
"""Bytes of a masked weight by encoding, as functions of (pattern, sizes, kept entries, bytes of a value).

``dense``: all values. ``bitmap``: a bit for every weight. ``csr``: a 32-bit offset for every column and one more, and
for every value its row in 16 bits (32 from K = 65,537 on). ``vector``: for every value its place among m, packed.
``kernel`` and ``block``: a bit for every unit. ``tile``: a bit for every column, and for every row of every tile;
``tile_vector`` the places too. The values kept come with each.
"""


def best_encoding(
    pattern: Pattern, sizes: Matrices, kept: Any, itemsize: int, *, tiles: int | None = None
) -> tuple[Any, Any]:
    """Return the fewest bytes a masked weight is written in, and which of `ENCODINGS` does it.

    Parameters
    ----------
    pattern
        What the weight was masked with.
    sizes
        Its matrices; numbers or arrays.
    kept
        Weights kept, likewise.
    itemsize
        Bytes of a value.
    tiles
        How many tiles there are, where that is known; else as many as the ratio makes.

    Returns
    -------
    tuple
        Bytes, and the name of the encoding (an array of names for arrays); the first of equals.
    """
    own = [name for name in ENCODINGS if name == pattern.granularity]
    names = ["dense", "bitmap", "csr", *own]
    known = {} if tiles is None else {"tiles": tiles}
    amounts = np.stack(
        np.broadcast_arrays(
            *(
                ENCODINGS[name](pattern, sizes, kept, itemsize, **(known if name.startswith("tile") else {}))
                for name in names
            )
        )
    )
    best = amounts.argmin(0)
    return np.take_along_axis(amounts, best[None], 0)[0], np.array(names)[best]


def _bits(count: Any) -> Any:
    return -(-count // 8)


def _blocks(pattern: Pattern, sizes: Matrices) -> Any:
    columns = sizes.columns // sizes.groups
    return -(-sizes.rows // pattern.height) * -(-columns // pattern.width) * sizes.groups
