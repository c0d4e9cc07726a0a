"""A small vision transformer (Dosovitskiy et al. 2021), for images of 32x32 and for digits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ViT", "vit_digits", "vit_tiny"]

_EXPANSION = 4


class Attention(nn.Module):
    """Self-attention of heads of one size, however many its layers have: [N, tokens, width] -> the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_size = width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what each token makes of all."""
        q, k, v = (layer(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2) for layer in self._layers())
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _layers(self) -> tuple[nn.Module, ...]:
        return self.query, self.key, self.value


class MLP(nn.Module):
    """Two linear layers: [N, tokens, width] -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, _EXPANSION * width)
        self.down = nn.Linear(_EXPANSION * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return what is made of each token."""
        return self.down(F.gelu(self.up(x)))


class Residual(nn.Module):
    """What a layer makes of its normalised input, added to the input."""

    def __init__(self, width: int, layer: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, tokens, width] of the same."""
        return x + self.layer(self.norm(x))


class ViT(nn.Module):
    """Patches and a class token with learned positions, blocks of attention and MLP, one linear layer.

    Parameters
    ----------
    image, patch
        Height and width in pixels of the images and of the patches they are divided into.
    width, depth, heads
        Channels of a token, blocks, and heads of each, which divide the width.
    num_classes, in_channels
        Width of the output and of the input.
    """

    def __init__(
        self, *, image: int, patch: int, width: int, depth: int, heads: int, num_classes: int, in_channels: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(in_channels, width, patch, patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (image // patch) ** 2 + 1, width))
        layers = (layer for _ in range(depth) for layer in (Attention(width, heads), MLP(width)))
        self.blocks = nn.Sequential(*(Residual(width, layer) for layer in layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, in_channels, image, image]."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


def vit_tiny(*, num_classes: int = 10, in_channels: int = 3) -> ViT:
    """Return ViT-Tiny with patches of 4x4 of 32x32: 5.36 M parameters, 365.1 M multiply-adds."""
    return ViT(image=32, patch=4, width=192, depth=12, heads=3, num_classes=num_classes, in_channels=in_channels)


def vit_digits(*, num_classes: int = 10, in_channels: int = 1) -> ViT:
    """Return a vision transformer for 8x8 digits: 0.11 M parameters, 2.0 M multiply-adds."""
    return ViT(image=8, patch=2, width=48, depth=4, heads=4, num_classes=num_classes, in_channels=in_channels)
