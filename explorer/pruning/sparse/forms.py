"""In which forms a layer with a pattern can be executed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from explorer.pruning.patterns import Mask, tiles
from explorer.pruning.sparse.conv import Lowered
from explorer.pruning.sparse.linear import BlockLinear, ChannelsLast, ProductLinear, SemiStructuredLinear
from explorer.pruning.sparse.matrix import Form, Layer, Matrix
from explorer.pruning.sparse.narrow import Narrow
from explorer.pruning.sparse.products import Csr, Product, Tile, Tiles
from spaces import Pattern

__all__ = ["forms", "unfit"]


class Sum(Form):
    """A layer whose weight is the sum of two, each in a form of its own."""

    def __init__(self, layer: Layer, first: Form, second: Form) -> None:
        super().__init__(layer)
        self.first, self.second = first.part(), second.part()
        self.dims = 0 if isinstance(layer, nn.Linear) else 2

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        """Return the sum of the two forms' outputs."""
        y: Tensor = self.first(input)
        y += self.second(input)
        if self.bias is not None:
            y += self.bias.view(-1, *[1] * self.dims)
        return y


class _Row(NamedTuple):
    build: Callable[[Layer, Pattern, Mask], Form]
    fits: Callable[[Layer, Pattern, Mask], bool]


def forms(layer: Layer, pattern: Pattern, mask: Mask) -> dict[str, Callable[[], Form]]:
    """Return the forms that compute with a layer's pattern, by name; none is built before it is called.

    Parameters
    ----------
    layer
        One that is not `unfit`.
    pattern, mask
        What its weight was masked with.
    """
    rows = {name: _ROWS[name] for name in _NAMES[pattern.granularity]}
    return {
        name: partial(row.build, layer, pattern, mask) for name, row in rows.items() if row.fits(layer, pattern, mask)
    }


def unfit(layer: nn.Module) -> str | None:
    """Return why a layer has no form at all, or None."""
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return f"{type(layer).__name__} is neither nn.Linear nor nn.Conv2d"
    if isinstance(layer, nn.Conv2d) and layer.padding_mode != "zeros":
        return f"padding_mode is {layer.padding_mode!r}, executed is 'zeros' only"
    return "it has hooks" if layer._forward_hooks or layer._forward_pre_hooks else None


def _tiles(layer: Layer, pattern: Pattern, mask: Mask) -> Form:
    return _computed(layer, Tiles(Matrix.of(layer), list(_tiles_of(pattern, mask))))


def _tiles_channels_last(layer: Layer, pattern: Pattern, mask: Mask) -> Form:
    assert isinstance(layer, nn.Conv2d)
    return ChannelsLast(layer, ProductLinear(layer, Tiles(Matrix.of(layer), list(_tiles_of(pattern, mask)))))


def _tiles_of(pattern: Pattern, mask: Mask) -> Iterator[Tile]:
    """Yield the tiles of a mask of the tile family; of blocks every column of them is one."""
    assert pattern.width is not None
    for group, keep in enumerate(mask.keep if mask.base is None else mask.base):
        step = pattern.width if pattern.granularity == "block" else keep.shape[1]
        for start in range(0, keep.shape[1], step):
            for rows, columns in tiles(keep[:, start : start + step], pattern.width):
                yield group, rows, columns + start


def _csr(layer: Layer, pattern: Pattern, mask: Mask) -> Form:
    return _computed(layer, Csr(Matrix.of(layer), mask.keep))


def _tiles_and_csr(layer: Layer, pattern: Pattern, mask: Mask) -> Form:
    assert mask.base is not None
    rest = mask.keep & ~mask.base
    first = _tiles(layer, pattern, mask)
    return Sum(layer, first, _computed(layer, Csr(Matrix.of(layer), rest))) if rest.any() else first


def _computed(layer: Layer, product: Product) -> Form:
    return ProductLinear(layer, product) if isinstance(layer, nn.Linear) else Lowered(layer, product)


def _blocks(layer: Layer, pattern: Pattern, mask: Mask) -> Form:
    assert isinstance(layer, nn.Linear)
    return BlockLinear(layer, pattern)


def _semi_structured(layer: Layer, pattern: Pattern, mask: Mask) -> Form:
    assert isinstance(layer, nn.Linear)
    return SemiStructuredLinear(layer)


def _narrow(layer: Layer, pattern: Pattern, mask: Mask) -> Form:
    assert isinstance(layer, nn.Conv2d)
    return Narrow(layer)


def _always(layer: Layer, pattern: Pattern, mask: Mask) -> bool:
    return True


def _single_positions(layer: Layer, pattern: Pattern, mask: Mask) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.padding in ((0, 0), "valid", "same")


def _empty_channels(layer: Layer, pattern: Pattern, mask: Mask) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.groups > 1:
        return False
    keep = mask.keep[0]
    channels = keep.unflatten(0, (-1, layer.in_channels)).any(0).any(1)
    return not bool(keep.any(0).all() and channels.all())


def _whole_blocks(layer: Layer, pattern: Pattern, mask: Mask) -> bool:
    return isinstance(layer, nn.Linear) and not (
        layer.in_features % (pattern.height or 1) or layer.out_features % (pattern.width or 1)
    )


def _sparse_cores(layer: Layer, pattern: Pattern, mask: Mask) -> bool:
    weight = layer.weight
    return (
        isinstance(layer, nn.Linear)
        and (pattern.n, pattern.m) == (2, 4)
        and weight.is_cuda
        and weight.dtype in (torch.float16, torch.bfloat16)
        and torch.cuda.get_device_capability(weight.device) >= (8, 0)
    )


_ROWS: Mapping[str, _Row] = {
    "tiles": _Row(_tiles, _always),
    "tiles, channels last": _Row(_tiles_channels_last, _single_positions),
    "tiles and CSR": _Row(_tiles_and_csr, _always),
    "narrow": _Row(_narrow, _empty_channels),
    "CSR": _Row(_csr, _always),
    "BSR": _Row(_blocks, _whole_blocks),
    "2:4": _Row(_semi_structured, _sparse_cores),
}

_NAMES: Mapping[str, tuple[str, ...]] = {
    "element": ("CSR",),
    "vector": ("2:4", "CSR"),
    "kernel": ("CSR",),
    "block": ("tiles", "tiles, channels last", "narrow", "BSR"),
    "tile": ("tiles", "tiles, channels last", "narrow"),
    "tile_element": ("tiles and CSR", "narrow", "CSR"),
    "tile_vector": ("tiles", "tiles, channels last", "narrow"),
}
