"""A layer's weight as matrices whose rows and columns are numbered through all groups, and what all forms share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explorer.pruning.patterns import gemm_view

__all__ = ["Form", "Layer", "Matrix", "transposed"]

Layer = nn.Linear | nn.Conv2d


class Form(nn.Module):
    """A layer that computes with its weight's pattern, for inference only.

    Code that reads the weight of the layer whose place this takes still finds it. What is computed with are buffers
    beside it, which move with the module but are not in its state_dict.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def part(self) -> Form:
        """Return the form as a part of another one, which has the weight and adds the bias."""
        self.weight = self.bias = None
        return self


@dataclass(frozen=True, eq=False)
class Matrix:
    """The matrices of a layer.

    Parameters
    ----------
    entries
        ``[groups, K, N]``, zero where a mask removed them.
    rows
        Which input entry a row reads, ``[groups, K]``: ``(kernel column * kernel rows + kernel row) * channels +
        channel`` with the channels of all groups; the input's own order for a linear layer. Kernel columns come
        first because rows that read across the same edge of an image are cleared together.
    """

    entries: Tensor
    rows: Tensor

    @classmethod
    def of(cls, layer: Layer) -> Matrix:
        """Return the matrices of a layer; its output channels are the columns of all groups in turn."""
        weight = layer.weight.detach()
        if isinstance(layer, nn.Linear):
            return cls(gemm_view(weight, "linear"), torch.arange(layer.in_features, device=weight.device)[None])
        high, wide = layer.kernel_size
        numbers = torch.arange(layer.in_channels * high * wide, device=weight.device)
        # [kernel column, kernel row, group, channel] -> [group, (kernel row, kernel column, channel)]
        split = numbers.view(wide, high, layer.groups, -1).permute(2, 1, 0, 3)
        return cls(gemm_view(weight, "conv", layer.groups), split.flatten(1))


def transposed(x: Tensor) -> Tensor:
    """Return the transpose of a contiguous matrix ``[m, n]`` as a contiguous one."""
    m, n = x.shape
    if x.device.type != "cpu" or not x.numel():
        return x.t().contiguous()
    # of torch's operators only this one transposes with vector instructions, two to four times as fast as a copy:
    # the matrix is one pixel of m groups of n channels
    return torch.channel_shuffle(x.view(1, 1, 1, m * n).permute(0, 3, 1, 2), m).view(n, m)
