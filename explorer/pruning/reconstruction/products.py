"""Products: the operations that multiply inputs with a layer's weight, and where in the inputs they read.

A convolution or linear layer is ``X @ W``: one row of `X` for each place of its output, with the inputs that the
place is made of. Matrices are ``[groups, K, N]``, as `explorer.pruning.patterns.masks` defines them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from explorer.pruning.patterns.masks import gemm_view, weight_view

__all__ = ["Geometry", "Product", "Taps", "product_of"]


@dataclass(frozen=True)
class Geometry:
    """How the places of a convolution's output lie over those of its input; ``sizes`` are of the input and output."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool

    @property
    def pointwise(self) -> bool:
        """Whether a place reads the place of the same number and no other."""
        return prod(self.kernel) == 1 and self.inputs == self.outputs and not any(self.padding)


@dataclass(frozen=True)
class Taps:
    """The input places that output places read.

    Parameters
    ----------
    index
        For every row and kernel position the number of the input place: int64 ``[R * kernel]``.
    outside
        Which of these entries lie in the padding; None for none.
    """

    index: Tensor
    outside: Tensor | None

    @classmethod
    def of(cls, geometry: Geometry, rows: Tensor) -> Taps:
        """Return what these output places read; a place's number is ``input * places + place in it``."""
        if geometry.pointwise:
            return cls(rows, None)
        places, sources = prod(geometry.outputs), prod(geometry.inputs)
        which, place = rows // places, rows % places
        kernel = torch.tensor(list(itertools.product(*(range(size) for size in geometry.kernel))), device=rows.device)
        index = torch.zeros(len(rows), len(kernel), dtype=torch.int64, device=rows.device)
        inside = torch.ones_like(index, dtype=torch.bool)
        # row-major, the last dimension changes fastest
        step = 1
        for dim in reversed(range(len(geometry.inputs))):
            out, place = (place % geometry.outputs[dim])[:, None], place // geometry.outputs[dim]
            offset, stride = kernel[:, dim] * geometry.dilation[dim], geometry.stride[dim]
            if geometry.transposed:
                reached = out + geometry.padding[dim] - offset
                inside &= reached % stride == 0
                at = reached.div(stride, rounding_mode="floor")
            else:
                at = out * stride - geometry.padding[dim] + offset
            length = geometry.inputs[dim]
            inside &= (at >= 0) & (at < length)
            index += at.clamp(0, length - 1) * step
            step *= length
        index += (which * sources)[:, None]
        missing = (~inside).flatten().nonzero().squeeze(1)
        return cls(index.flatten(), missing if len(missing) else None)


@dataclass(frozen=True)
class Product:
    """One run of an operation that multiplies `source` with `weight`; tensors are as the operator takes them."""

    source: Tensor
    weight: Tensor
    bias: Tensor | None
    kind: str
    groups: int = 1
    geometry: Geometry | None = None

    def matrices(self, value: Tensor) -> Tensor:
        """Return the weight, or what is laid out like it, as matrices ``[groups, K, N]``."""
        if self.geometry is None:
            return value[None]
        return gemm_view(value, self.kind, self.groups)

    def as_weight(self, matrices: Tensor) -> Tensor:
        """Return matrices in the shape of the weight, the inverse of `matrices`."""
        if self.geometry is None:
            return matrices[0]
        return weight_view(matrices, self.weight.shape, self.kind, self.groups)

    def rows(self, taps: Taps, block: slice) -> Tensor:
        """Return the rows of `X` in a block of those that the taps were made for: ``[groups, rows, K]``."""
        if self.geometry is None:
            return self.source.index_select(0, taps.index[block])[None]
        kernel = prod(self.geometry.kernel)
        entries = slice(block.start * kernel, block.stop * kernel)
        found = places_of(self.source, taps.index[entries])
        if taps.outside is not None:
            first, last = torch.searchsorted(taps.outside, torch.tensor([entries.start, entries.stop]).to(found.device))
            found.index_fill_(0, taps.outside[first:last] - entries.start, 0)
        channels = found.size(1) // self.groups
        if self.groups == 1:
            return found.view(1, -1, kernel * channels)
        split = found.view(-1, kernel, self.groups, channels)
        return split.permute(2, 0, 1, 3).reshape(self.groups, -1, kernel * channels)


def places_of(value: Tensor, index: Tensor) -> Tensor:
    """Return the channels at some places: ``[len(index), channels]`` of ``[inputs, channels, *places]``."""
    last = value.movedim(1, -1)
    if last.is_contiguous():
        return last.reshape(-1, last.size(-1)).index_select(0, index)
    flat = value.flatten(2)
    places = flat.size(2)
    return flat[index // places, :, index % places]


def product_of(func: Any, args: Sequence[Any]) -> Product | None:
    """Return the product that an operator makes of its arguments; None for an operator that makes none."""
    if func is torch.ops.aten.mm.default:
        return Product(args[0], args[1], None, "linear")
    if func is torch.ops.aten.addmm.default:
        return Product(args[1], args[2], args[0], "linear")
    if func is torch.ops.aten.convolution.default:
        return _convolution(*args)
    return None


def _convolution(
    source: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Product:
    inputs, kernel = tuple(source.shape[2:]), tuple(weight.shape[2:])
    stride, padding, dilation, extra = (
        tuple(value) * (len(inputs) if len(value) == 1 else 1) for value in (stride, padding, dilation, output_padding)
    )
    outputs = []
    for dim, length in enumerate(inputs):
        reach = dilation[dim] * (kernel[dim] - 1) + 1
        if transposed:
            outputs.append((length - 1) * stride[dim] - 2 * padding[dim] + reach + extra[dim])
        else:
            outputs.append((length + 2 * padding[dim] - reach) // stride[dim] + 1)
    geometry = Geometry(inputs, tuple(outputs), kernel, stride, padding, dilation, transposed)
    return Product(source, weight, bias, "conv_transposed" if transposed else "conv", groups, geometry)
