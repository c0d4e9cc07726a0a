"""DenseNet-BC in its CIFAR form (Huang et al. 2017): every layer reads all before it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DenseNet", "densenet40"]

_BOTTLENECK = 4


class DenseLayer(nn.Module):
    """A 1x1 and a 3x3 convolution, each after its norm: [N, in, H, W] -> [N, in + growth, H, W], the input first."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        width = _BOTTLENECK * growth
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the input and the channels made of it."""
        out = self.conv1(F.relu(self.bn1(x)))
        return torch.cat([x, self.conv2(F.relu(self.bn2(out)))], 1)


class Transition(nn.Module):
    """Half as many channels at half the resolution."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.conv = nn.Conv2d(in_channels, in_channels // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, in/2, H/2, W/2] of an input [N, in, H, W]."""
        return F.avg_pool2d(self.conv(F.relu(self.bn(x))), 2)


class DenseNet(nn.Module):
    """Three stages of dense layers with transitions between them.

    Parameters
    ----------
    layers
        Layers in each stage; the depth is ``6 * layers + 4``.
    growth
        Channels that each layer adds.
    num_classes, in_channels
        Width of the output and of the input.
    """

    def __init__(self, *, layers: int, growth: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        width = 2 * growth
        self.conv = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        parts: list[nn.Module] = []
        for stage in range(3):
            if stage:
                parts.append(Transition(width))
                width //= 2
            parts.append(nn.Sequential(*(DenseLayer(width + i * growth, growth) for i in range(layers))))
            width += layers * growth
        self.features = nn.Sequential(*parts)
        self.bn = nn.BatchNorm2d(width)
        self.linear = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, in_channels, H, W]."""
        out = F.relu(self.bn(self.features(self.conv(x))))
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def densenet40(*, num_classes: int = 10, in_channels: int = 3) -> DenseNet:
    """Return DenseNet-BC-40 of growth 12: 0.18 M parameters, 72.4 M multiply-adds at 32x32."""
    return DenseNet(layers=6, growth=12, num_classes=num_classes, in_channels=in_channels)
