"""Masks: which entries of a weight, seen as a GEMM matrix, a pattern keeps.

Every function works on whole tensors, on any device. A matrix is ``[groups, K, N]``; K is ordered (kernel
position, input channel) with the input channel innermost, N are the output channels of a group. It is stored
column by column, as torch stores weights: patterns follow K, and going back to the weight copies nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spaces import PruningError
from spaces.granularity import Pattern, kept_steps

__all__ = ["Mask", "gemm_view", "pattern_mask", "tile_places", "tiles", "weight_view"]


@dataclass(frozen=True, eq=False)
class Mask:
    """What a pattern keeps of a layer's weight.

    Parameters
    ----------
    keep
        True where an entry is kept: bool ``[groups, K, N]``.
    base
        The tile mask that ``tile_element`` adds entries to and ``tile_vector`` thins out, else None. The vectors
        of ``tile_vector`` count the rows of the *base* tiles: where all columns drop a row, `keep` has lost it.
    """

    keep: Tensor
    base: Tensor | None = None

    @property
    def ratio(self) -> float:
        """The realised ratio: the share of the entries that is kept."""
        return int(self.keep.count_nonzero()) / self.keep.numel()


def gemm_view(weight: Tensor, kind: str, groups: int = 1, *, inputs_first: bool = False) -> Tensor:
    """Return a weight, or anything of its shape, as GEMM matrices ``[groups, K, N]``, one a group.

    Parameters
    ----------
    weight
        ``[out, in / groups, *kernel]``; ``[in, out / groups, *kernel]`` of a transposed convolution. A linear
        layer has no kernel dimensions, a convolution any number of them.
    kind
        The `Layer.kind`.
    groups
        The layer's groups.
    inputs_first
        Whether the first dimension reads: a linear layer written ``x @ weight``. It is what
        ``network.tensor[layer.weight].dims[0].reads`` says.
    """
    split = weight.unflatten(0, (groups, -1))
    if inputs_first or kind == "conv_transposed":
        split = split.transpose(1, 2)
    return split.movedim(2, -1).flatten(2).transpose(1, 2)


def weight_view(
    gemm: Tensor, shape: Sequence[int], kind: str, groups: int = 1, *, inputs_first: bool = False
) -> Tensor:
    """Return GEMM matrices in the shape of the weight they came from: the inverse of `gemm_view`."""
    split = gemm.transpose(1, 2).unflatten(2, (*shape[2:], -1)).movedim(-1, 2)
    if inputs_first or kind == "conv_transposed":
        split = split.transpose(1, 2)
    return split.flatten(0, 1)


def pattern_mask(scores: Tensor, pattern: Pattern, kernel: int = 1) -> Mask:
    """Return the mask of a pattern: the best units by their scores, of equal ones those of lowest index.

    Selection is exact and runs over all groups of the layer; vectors, blocks and tiles never cross a group. The
    definitions are DESIGN.md's; the tiles are Guo et al.'s (IEEE TC 2024).

    Parameters
    ----------
    scores
        The importance of every entry, ``[groups, K, N]``, finite and not negative.
    pattern
        What to keep.
    kernel
        Kernel positions of the layer (``kh * kw``), of which K is a multiple.

    Raises
    ------
    PruningError
        If a score is negative, infinite or not a number.

    Examples
    --------
    >>> scores = torch.tensor([[[1.0, 4.0], [2.0, 3.0]]])
    >>> pattern_mask(scores, Pattern.of({"granularity": "element", "ratio": 0.5})).keep
    tensor([[[False,  True],
             [False,  True]]])
    """
    scores = scores.detach()
    # half precision can't be ordered everywhere, and float32 holds every value of it
    scores = scores if scores.dtype == torch.float64 else scores.float()
    least, greatest = (float(bound) for bound in scores.transpose(1, 2).aminmax())
    if not (least >= 0 and math.isfinite(greatest)):
        raise PruningError(f"scores: from {least:g} to {greatest:g}, allowed are finite numbers >= 0")
    return _MASKS[pattern.granularity](scores, pattern.ratio, kernel, **pattern.parameters)


def tiles(keep: Tensor, width: int) -> list[tuple[Tensor, Tensor]]:
    """Return the kept rows and the kept columns of every tile of one group, as ascending indices.

    Parameters
    ----------
    keep
        One group of the mask of ``tile``, or of the base of ``tile_element`` and ``tile_vector``: ``[K, N]``.
    width
        Surviving columns a tile; the last tile may be narrower.
    """
    columns = keep.any(0).nonzero().squeeze(1)
    chunks = columns.split(width) if len(columns) else ()
    return [(keep[:, chunk].any(1).nonzero().squeeze(1), chunk) for chunk in chunks]


def tile_places(alive: Tensor, width: int) -> tuple[Tensor, int]:
    """Return the place of every surviving column in the row of all tiles, and how many tiles there are.

    Parameters
    ----------
    alive
        Which columns of which group survive, ``[groups, N]``.
    width
        Surviving columns a tile. Column ``c`` of tile ``t`` is at place ``t * width + c``; a group starts a tile of
        its own, and one without columns has none.
    """
    ordinal = alive.cumsum(1) - 1
    used = -(-alive.sum(1) // width)
    before = (used.cumsum(0) - used)[:, None]
    return (before * width + ordinal)[alive], int(used.sum())


def _element(scores: Tensor, ratio: float, kernel: int, per: str = "layer") -> Mask:
    if per == "layer":
        return Mask(_top(scores, kept_steps(ratio, scores.numel())))
    columns = scores.transpose(1, 2)
    return Mask(_top_of_each(columns, kept_steps(ratio, columns.shape[2])).transpose(1, 2))


def _vector(scores: Tensor, ratio: float, kernel: int, n: int, m: int) -> Mask:
    columns = scores.transpose(1, 2)
    lengths = torch.tensor(columns.shape[2], device=scores.device)
    return Mask(_best_of_vectors(columns, lengths, n, m).transpose(1, 2))


def _kernel(scores: Tensor, ratio: float, kernel: int) -> Mask:
    if kernel == 1:
        return _element(scores, ratio, kernel)
    kernels = scores.unflatten(1, (kernel, -1))
    keep = _top(_key(kernels, (1,)), kept_steps(ratio, kernels[:, 0].numel()))
    columns = keep.transpose(1, 2).repeat(1, 1, kernel)
    return Mask(columns.transpose(1, 2))


def _block(scores: Tensor, ratio: float, kernel: int, height: int, width: int) -> Mask:
    _, K, N = scores.shape
    height, width = min(height, K), min(width, N)
    padded = F.pad(scores.transpose(1, 2), (0, -K % height, 0, -N % width))
    # [groups, block row, block column]: the order of indices, which decides between equal blocks
    blocks = padded.unflatten(2, (-1, height)).unflatten(1, (-1, width)).movedim((3, 1), (1, 2))
    high, wide = _sizes(K, height, scores.device), _sizes(N, width, scores.device)
    sizes = (high[:, None] * wide).expand(blocks.shape[:3])
    keys = _key(blocks, (3, 4), sizes)
    best = torch.arange(keys.numel(), device=keys.device).view(keys.shape) == keys.argmax()
    keep = _fill(keys, sizes, best, _exact(ratio) * scores.numel())
    columns = keep.transpose(1, 2).repeat_interleave(width, 1)[:, :N].repeat_interleave(height, 2)[..., :K]
    return Mask(columns.transpose(1, 2))


def _tile(scores: Tensor, ratio: float, kernel: int, width: int) -> Mask:
    return Mask(_Tiles.of(scores, _exact(ratio), width).mask(scores.shape))


def _tile_element(scores: Tensor, ratio: float, kernel: int, width: int, delta: float) -> Mask:
    base = _Tiles.of(scores, _exact(ratio) - _exact(delta), width).mask(scores.shape)
    missing = kept_steps(ratio, scores.numel()) - int(base.count_nonzero())
    # the best rows alone can be more than the ratio asks for
    keep = base if missing <= 0 else base | _top(scores.masked_fill(base, -1), missing)
    return Mask(keep, base)


def _tile_vector(scores: Tensor, ratio: float, kernel: int, width: int, n: int, m: int) -> Mask:
    found = _Tiles.of(scores, _exact(ratio) * m / n, width)
    lengths = found.rows.sum(1)
    # every tile's kept rows first, in order: the compacted tile
    rows = found.rows.int().argsort(dim=1, descending=True, stable=True)[:, : int(lengths.max())][found.tile]
    values = scores.transpose(1, 2).flatten(0, 1)[found.columns].gather(1, rows)
    values.masked_fill_(torch.arange(rows.shape[1], device=rows.device) >= lengths[found.tile, None], -1)
    best = _best_of_vectors(values, lengths[found.tile], n, m)
    kept = best.new_zeros(len(rows), scores.shape[1]).scatter_(1, rows, best)
    return Mask(found.paint(kept, scores.shape), found.mask(scores.shape))


_MASKS: Mapping[str, Callable[..., Mask]] = {
    "element": _element,
    "vector": _vector,
    "kernel": _kernel,
    "block": _block,
    "tile": _tile,
    "tile_element": _tile_element,
    "tile_vector": _tile_vector,
}


@dataclass(frozen=True, eq=False)
class _Tiles:
    """The surviving columns of a layer, numbered through all groups ``[C]``, the tile of each, and the kept rows
    of every tile ``[T, K]``.
    """

    columns: Tensor
    tile: Tensor
    rows: Tensor

    @classmethod
    def of(cls, scores: Tensor, share: Fraction, width: int) -> _Tiles:
        """Return the tiles that keep a share of all entries."""
        groups, K, N = scores.shape
        width = min(width, N)
        alive = _top(_key(scores, (1,)), _columns_kept(share, groups * N))
        places, count = tile_places(alive, width)
        columns, tile = alive.flatten().nonzero().squeeze(1), places // width
        compact = scores.new_zeros(count * width, K)
        compact[places] = scores.transpose(1, 2).flatten(0, 1)[columns]
        wide = torch.bincount(tile, minlength=count)[:, None].expand(count, K)
        keys = _key(compact.unflatten(0, (count, width)), (1,), wide)
        best = keys.new_zeros(keys.shape, dtype=torch.bool).scatter_(1, keys.argmax(1, keepdim=True), True)
        return cls(columns, tile, _fill(keys, wide, best, share * scores.numel()))

    def mask(self, shape: torch.Size) -> Tensor:
        """Return the mask that keeps every tile's rows."""
        return self.paint(self.rows[self.tile], shape)

    def paint(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """Return the mask whose surviving columns are `kept` ``[C, K]``."""
        groups, K, N = shape
        columns = kept.new_zeros(groups * N, K)
        columns[self.columns] = kept
        return columns.view(groups, N, K).transpose(1, 2)


def _key(scores: Tensor, dims: tuple[int, ...], sizes: Tensor | None = None) -> Tensor:
    """Return int64 in the order of the units' scores, L2 / sqrt(size); without `sizes` all are of one size."""
    squares = scores.double().square().sum(dims)
    if sizes is not None:
        squares = squares / sizes
    # sums of one kind, but in another order (threads, devices) or of another length, must tie: positive floats are
    # ordered like their bits, of which the last 12 are rounded away
    return (squares.view(torch.int64) + 2**11) >> 12


def _top(values: Tensor, count: int) -> Tensor:
    """Return a mask of the `count` greatest entries; of equal ones those of lowest index are in it."""
    by_memory = sorted(range(values.dim()), key=values.stride, reverse=True)
    flat = values.permute(by_memory).reshape(-1)
    rank = flat.numel() - count
    # numpy's partition of a CPU tensor takes a tenth of the time of torch's kthvalue
    cut = np.partition(flat.numpy(), rank)[rank] if flat.device.type == "cpu" else flat.kthvalue(rank + 1).values
    keep = values >= cut.item()
    surplus = int(keep.count_nonzero()) - count
    if surplus:
        ties = (values == cut.item()).nonzero()
        keep[tuple(ties[-surplus:].T)] = False
    return keep


def _top_of_each(values: Tensor, count: int) -> Tensor:
    """Return a mask of the `count` greatest entries along the last dimension, of equal ones those of lowest index."""
    rank = values.shape[-1] - count
    if values.device.type == "cpu":
        cut = torch.from_numpy(np.partition(values.numpy(), rank, axis=-1)[..., rank, None])
    else:
        cut = values.kthvalue(rank + 1, dim=-1, keepdim=True).values
    keep = values >= cut
    if int(keep.count_nonzero()) == count * cut.numel():
        return keep
    above, ties = values > cut, values == cut
    room = count - above.sum(-1, keepdim=True)
    return above | (ties & (ties.cumsum(-1, dtype=torch.int32) <= room))


def _fill(keys: Tensor, sizes: Tensor, always: Tensor, target: Fraction) -> Tensor:
    """Return a mask of the units in `always` and of others in the order of their keys.

    It ends before the unit whose addition leaves the total of the sizes further from `target`.
    """
    order = keys.masked_fill(always, -1).flatten().argsort(descending=True, stable=True)
    size = sizes.reshape(-1)[order]
    total = int(sizes[always].sum()) + size.cumsum(0)
    # the total after is as near as the one before where their sum is at most twice the target
    nearer = (2 * total - size <= math.floor(2 * target)) & ~always.flatten()[order]
    keep = always.clone()
    keep.view(-1)[order[nearer]] = True
    return keep


def _best_of_vectors(values: Tensor, lengths: Tensor, n: int, m: int) -> Tensor:
    """Return which n of every m consecutive entries of the last dimension are the greatest, ties by index.

    Of each row the first `lengths` (one number, or one a row) count; its tail of t entries keeps ceil(n * t / m).
    """
    length = values.shape[-1]
    step = min(m, length)
    vectors = F.pad(values, (0, -length % step), value=-1).unflatten(-1, (-1, step))
    inside = lengths[..., None] - torch.arange(0, length, step, device=values.device)
    limits = -(-n * inside.clamp(0, m) // m)
    # each comparison is a rank lost by one of two entries; from 16 entries on sorting is less work
    if step > 16:
        ranks = vectors.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
        keep = ranks < limits[..., None]
    else:
        entries = vectors.unbind(-1)
        ranked = [torch.zeros_like(entries[0], dtype=torch.uint8) for _ in entries]
        for i, j in itertools.combinations(range(step), 2):
            behind = entries[j] > entries[i]
            ranked[i] += behind
            ranked[j] += ~behind
        keep = torch.stack([rank < limits.to(torch.uint8) for rank in ranked], -1)
    return keep.flatten(-2)[..., :length]


def _columns_kept(share: Fraction, columns: int) -> int:
    """Return ceil(sqrt(share) * columns), exactly."""
    return math.isqrt(math.ceil(share * columns * columns) - 1) + 1


def _sizes(length: int, step: int, device: torch.device) -> Tensor:
    """Return the sizes of the parts that `length` falls into, the last of which may be shorter."""
    return (length - torch.arange(0, length, step, device=device)).clamp(max=step)


def _exact(ratio: float) -> Fraction:
    """Return the number that a ratio was written as: 0.81 is a square, the float next to it is not."""
    return Fraction(str(ratio))
