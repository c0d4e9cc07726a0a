"""Torchvision's attention in shifted windows with fewer heads or narrower inputs, which its code cannot express."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["WINDOWED", "SmallerWindowAttention", "window_attention"]

WINDOWED = tuple(
    f"torchvision.models.swin_transformer.{name}" for name in ("ShiftedWindowAttention", "ShiftedWindowAttentionV2")
)
"""The classes, by name because torchvision need not be there."""


class SmallerWindowAttention(nn.Module):
    """Self-attention in windows of heads of one size, for inputs of any width: [N, H, W, C] -> the same.

    A copy of a dense module of torchvision's Swin (Liu et al. 2021) or Swin V2 becomes one by taking its class, and
    keeps its tensors. Torchvision divides the input's width by the number of heads.
    """

    # what a dense module has
    window_size: list[int]
    shift_size: list[int]
    num_heads: int
    attention_dropout: float
    dropout: float
    qkv: nn.Linear
    proj: nn.Linear

    def forward(self, x: Tensor) -> Tensor:
        """Return what each position makes of its window."""
        height, width = x.shape[1:3]
        high, wide = self.window_size
        x = F.pad(x, (0, 0, 0, -width % wide, 0, -height % high))
        padded = x.shape[1:3]
        # a window that holds everything has nowhere to go
        shift = [
            0 if size >= length else s for s, size, length in zip(self.shift_size, (high, wide), padded, strict=True)
        ]
        if any(shift):
            x = torch.roll(x, (-shift[0], -shift[1]), (1, 2))
        rows, columns = padded[0] // high, padded[1] // wide
        x = x.unflatten(1, (rows, high)).unflatten(3, (columns, wide)).transpose(2, 3)
        windows = self._attention(x.flatten(3, 4).flatten(0, 2), self._mask(x, padded, shift))
        out = windows.unflatten(0, (-1, rows, columns)).unflatten(3, (high, wide)).transpose(2, 3)
        out = out.flatten(3, 4).flatten(1, 2)
        if any(shift):
            out = torch.roll(out, (shift[0], shift[1]), (1, 2))
        return out[:, :height, :width].contiguous()

    def _attention(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return [windows, tokens, C] of the same; a mask is [windows of one image, tokens, tokens]."""
        bias: Tensor | None = self.qkv.bias
        scale: Tensor | None = getattr(self, "logit_scale", None)
        if scale is not None and bias is not None:
            # Swin V2 has no bias of keys
            queries, keys, values = bias.chunk(3)
            bias = torch.cat([queries, torch.zeros_like(keys), values])
        q, k, v = F.linear(x, self.qkv.weight, bias).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if scale is not None:
            products = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
            products = products * torch.clamp(scale, max=math.log(100.0)).exp()
        else:
            products = q * q.size(-1) ** -0.5 @ k.transpose(-2, -1)
        products = products + self._bias()
        if mask is not None:
            products = (products.unflatten(0, (-1, len(mask))) + mask.unsqueeze(1)).flatten(0, 1)
        weights = F.dropout(products.softmax(-1), self.attention_dropout, self.training)
        out = self.proj((weights @ v).transpose(1, 2).flatten(2))
        return F.dropout(out, self.dropout, self.training)

    def _bias(self) -> Tensor:
        """Return what is added to the products by relative position: [1, heads, tokens, tokens]."""
        made: Any = getattr(self, "cpb_mlp", None)
        table: Any = (
            self.relative_position_bias_table if made is None else made(self.relative_coords_table).flatten(0, 2)
        )
        tokens = self.window_size[0] * self.window_size[1]
        bias = (
            table.flatten(0, -2)[self.relative_position_index]
            .unflatten(0, (tokens, tokens))
            .permute(2, 0, 1)
            .unsqueeze(0)
        )
        return bias if made is None else 16 * torch.sigmoid(bias)

    def _mask(self, x: Tensor, padded: torch.Size, shift: list[int]) -> Tensor | None:
        """Return -100 for what came together by shifting and 0 elsewhere: [windows, tokens, tokens]."""
        if not any(shift):
            return None
        parts = []
        for length, size, moved in zip(padded, self.window_size, shift, strict=True):
            place = torch.arange(length, device=x.device)
            parts.append((place >= length - size).long() + (place >= length - moved).long())
        region = 3 * parts[0][:, None] + parts[1]
        high, wide = self.window_size
        region = region.unflatten(0, (-1, high)).unflatten(2, (-1, wide)).transpose(1, 2).flatten(2).flatten(0, 1)
        return (region.unsqueeze(1) != region.unsqueeze(2)).to(x.dtype) * -100.0


def window_attention(module: Any) -> None:
    """Let a module whose heads and inputs can have any width take the place of torchvision's, which has one width."""
    if module.qkv.weight.size(0) != 3 * module.qkv.weight.size(1):
        module.__class__ = SmallerWindowAttention
