"""What stands behind a layer and does to each channel the same: a batch norm in eval mode and scales.

A solution is of what comes out of it. It is written back so that training can continue from it: the norm's running
statistics are those of the layer's outputs, and the weights of a channel are as long as they were.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Behind", "Norm"]


@dataclass(frozen=True, eq=False)
class Norm:
    """A batch norm's tensors, as its operator takes them."""

    weight: Tensor | None
    bias: Tensor | None
    mean: Tensor
    variance: Tensor
    eps: float

    def affine(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift of each channel."""
        factor = (self.variance.to(dtype) + self.eps).rsqrt()
        factor = factor if self.weight is None else factor * self.weight.to(dtype)
        shift = -self.mean.to(dtype) * factor
        return factor, shift if self.bias is None else shift + self.bias.to(dtype)

    def follow(self, source: Tensor) -> None:
        """Make the running statistics those of what comes in, and undo that by weight and bias."""
        if self.weight is None or self.bias is None:
            return
        dtype = torch.float64 if source.dtype == torch.float64 else torch.float32
        factor, shift = self.affine(dtype)
        dims = [dim for dim in range(source.dim()) if dim != 1]
        variance, mean = torch.var_mean(source.to(dtype), dims, correction=0)
        where = torch.ones_like(mean, dtype=torch.bool)
        _write(self.weight, factor * (variance + self.eps).sqrt(), where)
        _write(self.bias, shift + factor * mean, where)
        _write(self.mean, mean, where)
        _write(self.variance, variance, where)


@dataclass(frozen=True, eq=False)
class Behind:
    """A layer's bias, the norm behind it if there is one, and the product of the scales behind that.

    Parameters
    ----------
    bias
        The layer's, as its operator takes it.
    free
        Whether the bias may be changed.
    norm
        The norm, whose tensors may be changed.
    scale
        One factor a channel; None for 1.
    """

    bias: Tensor | None
    free: bool
    norm: Norm | None
    scale: Tensor | None

    @property
    def shifts(self) -> bool:
        """Whether there is something that can add any number to a channel."""
        return self.norm is not None or (self.free and self.bias is not None)

    def affine(self, channels: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the factor and the shift that the layer's outputs have when they come out, without its bias."""
        factor = torch.ones(channels, dtype=dtype, device=device)
        shift = torch.zeros(channels, dtype=dtype, device=device)
        if self.norm is not None:
            factor, shift = self.norm.affine(dtype)
        if self.scale is not None:
            scale = self.scale.to(dtype).reshape(-1)
            factor, shift = factor * scale, shift * scale
        return factor, shift

    def written(self, columns: Tensor, inherited: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Write the shift to the norm or the bias, and return what the layer's weights become.

        Parameters
        ----------
        columns
            The solution of what comes out, ``[K, N]``.
        inherited
            The weights, likewise, whose lengths they keep behind a norm.
        shift
            What is added to it, ``[N]``.
        mean, variance
            Of the products with the solution, without the shift: ``[N]``.
        """
        dtype = columns.dtype
        factor, _ = self.affine(columns.size(1), dtype, columns.device)
        usable = factor != 0
        if self.norm is None:
            weights = torch.where(usable, columns / torch.where(usable, factor, 1), inherited)
            if self.shifts and self.bias is not None:
                _write(self.bias, shift / torch.where(usable, factor, 1), usable)
            return weights
        scale = torch.ones_like(factor) if self.scale is None else self.scale.to(dtype).reshape(-1)
        scale = torch.where(usable, scale, 1)
        columns, shift, mean, variance = columns / scale, shift / scale, mean / scale, variance / scale**2
        norm, bias = self.norm, torch.zeros_like(shift) if self.bias is None else self.bias.to(dtype)
        if norm.weight is None or norm.bias is None:
            return self._shifted(columns, inherited, shift, bias, usable)
        lengths, solved = inherited.norm(dim=0), columns.norm(dim=0)
        some = usable & (solved > 0) & (lengths > 0)
        # an output is `stretch * (weights of the old length @ x)`, with the sign that the norm's weight had
        stretch = torch.where(some, solved / torch.where(some, lengths, 1), 1) * torch.where(factor / scale < 0, -1, 1)
        weights = torch.where(usable, columns / stretch, inherited)
        spread = variance / stretch**2
        _write(norm.weight, torch.where(some, stretch * (spread + norm.eps).sqrt(), norm.weight.to(dtype)), usable)
        centre = mean / stretch
        _write(norm.mean, centre + bias, usable)
        _write(norm.variance, torch.where(some, spread, norm.variance.to(dtype)), usable)
        _write(norm.bias, shift + torch.where(some, stretch * centre, 0), usable)
        return weights

    def _shifted(self, columns: Tensor, inherited: Tensor, shift: Tensor, bias: Tensor, usable: Tensor) -> Tensor:
        """Write the shift to the running mean of a norm without parameters of its own."""
        assert self.norm is not None
        factor = (self.norm.variance.to(columns.dtype) + self.norm.eps).rsqrt()
        if self.norm.weight is not None:
            factor = factor * self.norm.weight.to(columns.dtype)
        if self.norm.bias is not None:
            shift = shift - self.norm.bias.to(columns.dtype)
        factor = torch.where(usable, factor, 1)
        _write(self.norm.mean, bias - shift / factor, usable)
        return torch.where(usable, columns / factor, inherited)


def _write(tensor: Tensor, value: Tensor, where: Tensor) -> None:
    tensor.copy_(torch.where(where, value.to(tensor.dtype), tensor))
