"""Paths: what becomes of a layer's output until it is added to something.

Behind a layer there may be views, one batch norm in eval mode and scales of channels, in this order, and then an
addition. All of it keeps a value's places and channels where they are in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import torch
from torch import Tensor

__all__ = ["ADDITIONS", "Layout", "bounds_of", "is_norm", "is_view", "scale_of", "summand_of"]

ADDITIONS = frozenset([torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor])
_NORMS = frozenset(
    "_native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm native_batch_norm".split()  # noqa: SIM905
)
# they share memory with their input, which their schemas do not say
_VIEWS = frozenset(["_reshape_alias", "_unsafe_view"])


def is_view(func: Any) -> bool:
    """Tell whether an operator returns its first argument's memory and writes nothing."""
    return func.is_view or func.overloadpacket.__name__ in _VIEWS


def is_norm(func: Any, args: Sequence[Any]) -> bool:
    """Tell whether an operator is a batch norm by its running statistics."""
    name = func.overloadpacket.__name__
    return name in _NORMS and args[3] is not None and (name == "_native_batch_norm_legit_no_training" or not args[5])


def summand_of(func: Any, args: Sequence[Any], kwargs: Any, value: Tensor) -> Tensor | None:
    """Return what an operator adds to a value without broadcasting it; None for any other operator."""
    if func not in ADDITIONS or kwargs or not all(isinstance(arg, Tensor) for arg in args):
        return None
    other = args[1] if args[0] is value else args[0]
    return None if other is value or torch.broadcast_shapes(value.shape, other.shape) != value.shape else other


def bounds_of(func: Any, args: Sequence[Any]) -> tuple[float, float] | None:
    """Return below and above which an operator clips its first argument; None for any other operator."""
    name = func.overloadpacket.__name__
    if name in ("relu", "relu_"):
        return 0.0, inf
    if name in ("hardtanh", "hardtanh_"):
        # what is left out is -1 and 1
        return (*map(float, args[1:]), *(-1.0, 1.0)[len(args) - 1 :])  # type: ignore[return-value]
    return None


class Layout:
    """How a layer's output lies in memory: ``[inputs, channels, *places]`` or ``[rows, channels]``."""

    def __init__(self, output: Tensor) -> None:
        self.shape, self.strides = output.shape, output.stride()

    @property
    def channels(self) -> int:
        return self.shape[1]

    @property
    def places(self) -> int:
        """Places of all inputs together."""
        return self.shape.numel() // max(1, self.channels)

    def holds(self, value: Tensor) -> bool:
        """Tell whether a value has the layer's entries in its memory, each where the layer's output has it."""
        if value.numel() != self.shape.numel():
            return False
        return value.shape != self.shape or _alike(value, self.shape, self.strides)

    def of(self, value: Tensor, like: Tensor) -> Tensor:
        """Return a value in the shape of the layer's output.

        Parameters
        ----------
        value
            Of the shape of `like`, in any layout.
        like
            What became of the layer's output, which `holds` its entries.
        """
        value = value.expand(like.shape)
        if not _alike(value, like.shape, like.stride()):
            copy = torch.empty_strided(like.shape, like.stride(), dtype=value.dtype, device=value.device)
            value = copy.copy_(value)
        return value.as_strided(self.shape, self.strides, value.storage_offset())

    def along(self, value: Tensor) -> int | None:
        """Return the dimension of a value along which the channels lie."""
        for dim, (length, stride) in enumerate(zip(value.shape, value.stride(), strict=True)):
            if length == self.channels and stride == self.strides[1] and length > 1:
                return dim
        return None


def scale_of(func: Any, args: Sequence[Any], value: Tensor, layout: Layout) -> Tensor | None:
    """Return the other factor of a product that scales a value's channels, one number each; None for others."""
    if func is not torch.ops.aten.mul.Tensor or not all(isinstance(arg, Tensor) for arg in args):
        return None
    other = args[1] if args[0] is value else args[0]
    dim = layout.along(value)
    if dim is None or other.numel() != layout.channels or other.dim() > value.dim():
        return None
    place = dim - (value.dim() - other.dim())
    return other if place >= 0 and other.size(place) == layout.channels else None


def _alike(value: Tensor, shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Tell whether a value has this shape and these strides; those of dimensions of length 1 do not matter."""
    if tuple(value.shape) != tuple(shape):
        return False
    return all(n == 1 or mine == other for n, mine, other in zip(shape, value.stride(), strides, strict=True))
