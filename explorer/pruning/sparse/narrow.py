"""A convolution without the channels that its pattern empties: dense, but smaller."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.pruning.sparse.matrix import Form

__all__ = ["Narrow"]

_PIXELS = 2048


class Narrow(Form):
    """A convolution of the channels that have weights, whose outputs are put between zeros.

    Where channels are few this is faster than tiles: a dense kernel needs no gathers.

    Parameters
    ----------
    conv
        Of one group, with zeros as padding.
    """

    filters: Tensor
    reads: Tensor
    places: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.stride, self.padding, self.dilation = conv.stride, conv.padding, conv.dilation
        weight = conv.weight.detach()
        alive = weight != 0
        outputs, reads = (alive.any(dim).any(-1).any(-1).nonzero().squeeze(1) for dim in (1, 0))
        filters = weight[outputs][:, reads]
        inner = conv.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if inner else torch.contiguous_format
        self.register_buffer("filters", filters.contiguous(memory_format=layout), persistent=False)
        self.register_buffer("reads", reads, persistent=False)
        # channels without weights are found behind the last of the others
        places = torch.full((len(weight),), len(outputs), device=weight.device)
        places[outputs] = torch.arange(len(outputs), device=weight.device)
        self.register_buffer("places", places, persistent=False)

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        """Return [B, N, H', W'] of an input [B, C, H, W]."""
        if len(self.reads) < input.shape[1]:
            input = _select(input, self.reads)
        y = F.conv2d(input, self.filters, None, self.stride, self.padding, self.dilation)
        if len(self.places) > y.shape[1]:
            y = _select(y, self.places, more=1)
        if self.bias is not None:
            y += self.bias[:, None, None]
        return y


def _select(x: Tensor, channels: Tensor, more: int = 0) -> Tensor:
    """Return some channels of images, after adding `more` that are zero, in the same memory layout.

    A part at a time, so that the copy with zeros stays in a core's cache.
    """
    batch, given, high, wide = x.shape
    if x.is_contiguous():
        y = x.new_empty(batch, len(channels), high, wide)
        for image, out in zip(x, y, strict=True):
            torch.index_select(F.pad(image, (0, 0, 0, 0, 0, more)), 0, channels, out=out)
        return y
    pixels = x.permute(0, 2, 3, 1).reshape(-1, given)
    rows = x.new_empty(len(pixels), len(channels))
    for part, out in zip(pixels.split(_PIXELS), rows.split(_PIXELS), strict=True):
        torch.index_select(F.pad(part, (0, more)), 1, channels, out=out)
    return rows.view(batch, high, wide, len(channels)).permute(0, 3, 1, 2)
