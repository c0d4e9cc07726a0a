"""Encodings: a masked weight as the tensors it takes least bytes in, and back.

The bytes of each encoding are a formula of `spaces.gemm.ENCODINGS`; here they are written. Whatever the encoding,
the values kept stand column by column, and what else is stored says which entries they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from explorer.pruning.patterns import Mask, tile_places
from spaces import Matrices, Pattern, PruningError, first_line, unknown
from spaces.gemm import best_encoding

__all__ = ["decode", "encode"]

Tensors = dict[str, Tensor]


def encode(weight: Tensor, mask: Mask, pattern: Pattern | None, kernel: int = 1) -> tuple[str, Tensors]:
    """Return the name of the smallest encoding of a masked weight, and its tensors on the CPU.

    Parameters
    ----------
    weight
        The weight as GEMM matrices ``[groups, K, N]``, of any type. What `mask` drops is ignored.
    mask
        What is kept.
    pattern
        The pattern that made the mask; None for a mask of any kind, or of everything.
    kernel
        Kernel positions, as in `pattern_mask`.

    Returns
    -------
    tuple
        One of `spaces.gemm.ENCODINGS`, and flat tensors that safetensors can store: ``values`` in the weight's
        type, the rest integers. Together they have exactly the bytes of the formula.
    """
    groups, K, N = weight.shape
    pattern = pattern or Pattern("element", 1.0)
    layout = _Layout((groups, N, K), pattern, kernel)
    columns, keep = (tensor.detach().transpose(1, 2).cpu() for tensor in (weight, mask.keep))
    base = keep if mask.base is None else mask.base.transpose(1, 2).cpu()
    tiles = tile_places(base.any(2), pattern.width)[1] if pattern.granularity in _TILED else None
    sizes = Matrices(K, groups * N, groups, kernel)
    kept = int(keep.count_nonzero())
    name = str(best_encoding(pattern, sizes, kept, weight.element_size(), tiles=tiles)[1])
    if name == "dense":
        return name, {"values": columns.masked_fill(~keep, 0).flatten()}
    return name, {"values": columns[keep]} | _CODES[name].write(keep, base, layout)


def decode(
    name: str, tensors: Mapping[str, Tensor], shape: tuple[int, int, int], pattern: Pattern | None, kernel: int = 1
) -> Tensor:
    """Return the masked weight ``[groups, K, N]`` that `encode` wrote: zero where nothing is kept.

    Parameters
    ----------
    name, tensors
        What `encode` returned.
    shape
        Groups, K and N.
    pattern, kernel
        As given to `encode`.

    Raises
    ------
    PruningError
        If the encoding is unknown, or its tensors do not describe a weight of this shape.
    """
    groups, K, N = shape
    if name not in _CODES:
        raise unknown("encoding", name, _CODES)
    layout = _Layout((groups, N, K), pattern or Pattern("element", 1.0), kernel)
    try:
        keep = _CODES[name].read(tensors, layout)
        values = tensors["values"]
        if len(values) != int(keep.count_nonzero()):
            raise ValueError(f"{len(values)} values for {int(keep.count_nonzero())} kept entries")
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise PruningError(f"encoding: no weight of {list(shape)} in {name!r} ({first_line(error)})") from None
    columns = values.new_zeros(groups, N, K)
    columns[keep] = values
    return columns.transpose(1, 2)


@dataclass(frozen=True)
class _Layout:
    """What the reader of a file knows beforehand: sizes (groups, N, K), the pattern and the kernel positions."""

    shape: tuple[int, int, int]
    pattern: Pattern
    kernel: int


@dataclass(frozen=True)
class _Code:
    """How an encoding says which entries are kept, bool ``[groups, N, K]``; `write` is given the tile base too."""

    write: Callable[[Tensor, Tensor, _Layout], Tensors]
    read: Callable[[Mapping[str, Tensor], _Layout], Tensor]


def _read_dense(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    return torch.ones(layout.shape, dtype=torch.bool)


def _write_bitmap(keep: Tensor, base: Tensor, layout: _Layout) -> Tensors:
    return {"bitmap": _packed(keep)}


def _read_bitmap(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    return _unpacked(tensors["bitmap"], layout.shape)


def _write_csr(keep: Tensor, base: Tensor, layout: _Layout) -> Tensors:
    ends = keep.flatten(0, 1).sum(1).cumsum(0)
    rows = keep.nonzero()[:, 2]
    narrow = layout.shape[2] <= 1 << 16
    offsets = torch.cat([ends.new_zeros(1), ends]).int()
    return {"offsets": offsets, "rows": rows.to(torch.uint16 if narrow else torch.int32)}


def _read_csr(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    groups, N, K = layout.shape
    columns = torch.arange(groups * N).repeat_interleave(tensors["offsets"].diff())
    keep = torch.zeros(groups * N, K, dtype=torch.bool)
    keep[columns, tensors["rows"].long()] = True
    return keep.view(layout.shape)


def _write_vector(keep: Tensor, base: Tensor, layout: _Layout) -> Tensors:
    return {"places": _write_places(keep, torch.ones_like(keep), layout.pattern.m)}


def _read_vector(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    return _read_places(tensors["places"], torch.ones(layout.shape, dtype=torch.bool), layout.pattern)


def _write_kernel(keep: Tensor, base: Tensor, layout: _Layout) -> Tensors:
    return {"kernels": _packed(keep.unflatten(2, (layout.kernel, -1))[:, :, 0])}


def _read_kernel(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    groups, N, K = layout.shape
    return _unpacked(tensors["kernels"], (groups, N, K // layout.kernel)).repeat(1, 1, layout.kernel)


def _write_block(keep: Tensor, base: Tensor, layout: _Layout) -> Tensors:
    return {"blocks": _packed(keep[:, :: layout.pattern.width, :: layout.pattern.height])}


def _read_block(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    groups, N, K = layout.shape
    width, height = min(layout.pattern.width, N), min(layout.pattern.height, K)
    blocks = _unpacked(tensors["blocks"], (groups, -(-N // width), -(-K // height)))
    return blocks.repeat_interleave(width, 1)[:, :N].repeat_interleave(height, 2)[..., :K]


def _write_tile(keep: Tensor, base: Tensor, layout: _Layout) -> Tensors:
    alive = base.any(2)
    places, count = tile_places(alive, layout.pattern.width)
    rows = torch.zeros(count, base.shape[2], dtype=torch.bool)
    rows[places // layout.pattern.width] = base[alive]
    return {"columns": _packed(alive), "rows": _packed(rows)}


def _read_tile(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    alive = _unpacked(tensors["columns"], layout.shape[:2])
    places, count = tile_places(alive, layout.pattern.width)
    rows = _unpacked(tensors["rows"], (count, layout.shape[2]))
    keep = torch.zeros(layout.shape, dtype=torch.bool)
    keep[alive] = rows[places // layout.pattern.width]
    return keep


def _write_tile_vector(keep: Tensor, base: Tensor, layout: _Layout) -> Tensors:
    return _write_tile(keep, base, layout) | {"places": _write_places(keep, base, layout.pattern.m)}


def _read_tile_vector(tensors: Mapping[str, Tensor], layout: _Layout) -> Tensor:
    return _read_places(tensors["places"], _read_tile(tensors, layout), layout.pattern)


_CODES: Mapping[str, _Code] = {
    "dense": _Code(lambda keep, base, layout: {}, _read_dense),
    "bitmap": _Code(_write_bitmap, _read_bitmap),
    "csr": _Code(_write_csr, _read_csr),
    "vector": _Code(_write_vector, _read_vector),
    "kernel": _Code(_write_kernel, _read_kernel),
    "block": _Code(_write_block, _read_block),
    "tile": _Code(_write_tile, _read_tile),
    "tile_vector": _Code(_write_tile_vector, _read_tile_vector),
}
_TILED = ("tile", "tile_vector")


def _write_places(keep: Tensor, base: Tensor, m: int) -> Tensor:
    """Return the place of every kept entry among its m entries of `base`, in as few bits as name it."""
    places = ((base.cumsum(2) - 1)[keep] % m).numpy()
    return _packed(torch.from_numpy(places[:, None] >> np.arange((m - 1).bit_length()) & 1 == 1))


def _read_places(packed: Tensor, base: Tensor, pattern: Pattern) -> Tensor:
    """Return which entries of `base` are kept, n of every m of a column and ceil(n * t / m) of its tail of t."""
    lengths = base.sum(2).flatten()
    n, m, bits = pattern.n, pattern.m, (pattern.m - 1).bit_length()
    kept = lengths // m * n - (-n * (lengths % m) // m)
    columns = torch.arange(len(lengths)).repeat_interleave(kept)
    order = torch.arange(len(columns)) - (kept.cumsum(0) - kept)[columns]
    places = (_unpacked(packed, (len(columns), bits)).long() << torch.arange(bits)).sum(1)
    # the entries of a column's base come first, in order
    rows = base.flatten(0, 1).int().argsort(dim=1, descending=True, stable=True)
    keep = torch.zeros_like(rows, dtype=torch.bool)
    keep[columns, rows[columns, order // n * m + places]] = True
    return keep.view(base.shape)


def _packed(flags: Tensor) -> Tensor:
    """Return flags as bits, eight a byte, the first the lowest."""
    return torch.from_numpy(np.packbits(flags.contiguous().numpy().ravel(), bitorder="little"))


def _unpacked(packed: Tensor, shape: tuple[int, ...]) -> Tensor:
    count = int(np.prod(shape))
    if len(packed) != -(-count // 8):
        raise ValueError(f"{len(packed)} bytes for {count} bits")
    return torch.from_numpy(np.unpackbits(packed.numpy(), count=count, bitorder="little")).bool().view(shape)
