"""The CIFAR family of residual networks, with shortcuts that have no parameters."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ResNet", "resnet20", "resnet32", "resnet44", "resnet56", "resnet110", "resnet_digits"]


class PadShortcut(nn.Module):
    """Option A: every second row and column, zero channels around the input's own.

    A module of its own, so that tracing and surgery can address it by name although it has no weights.

    Parameters
    ----------
    in_channels, out_channels
        Channels read and written, ``out_channels >= in_channels``. With an odd difference the extra zero
        channel comes last.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.pad_before = (out_channels - in_channels) // 2
        self.pad_after = out_channels - in_channels - self.pad_before

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, out, ceil(H/2), ceil(W/2)] of an input [N, in, H, W]."""
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad_before, self.pad_after))

    def extra_repr(self) -> str:
        """Return the padding as ``print(model)`` shows it."""
        return f"pad_before={self.pad_before}, pad_after={self.pad_after}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [N, in, H, W] -> [N, out, H/stride, W/stride]."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity() if stride == 1 else PadShortcut(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of residual blocks at full, half and quarter resolution.

    Parameters
    ----------
    blocks
        Blocks in each stage; the depth is ``6 * blocks + 2``.
    num_classes, in_channels
        Width of the output and of the input.
    """

    def __init__(self, *, blocks: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, 1, blocks)
        self.layer2 = _stage(16, 32, 2, blocks)
        self.layer3 = _stage(32, 64, 2, blocks)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, in_channels, H, W]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))


def _stage(in_channels: int, out_channels: int, stride: int, blocks: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1)))


def resnet20(*, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Return ResNet-20: 0.27 M parameters, 40.6 M multiply-adds at 32x32."""
    return ResNet(blocks=3, num_classes=num_classes, in_channels=in_channels)


def resnet32(*, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Return ResNet-32: 0.46 M parameters, 68.9 M multiply-adds at 32x32."""
    return ResNet(blocks=5, num_classes=num_classes, in_channels=in_channels)


def resnet44(*, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Return ResNet-44: 0.66 M parameters, 97.2 M multiply-adds at 32x32."""
    return ResNet(blocks=7, num_classes=num_classes, in_channels=in_channels)


def resnet56(*, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Return ResNet-56: 0.85 M parameters, 125.5 M multiply-adds at 32x32."""
    return ResNet(blocks=9, num_classes=num_classes, in_channels=in_channels)


def resnet110(*, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Return ResNet-110: 1.73 M parameters, 252.9 M multiply-adds at 32x32."""
    return ResNet(blocks=18, num_classes=num_classes, in_channels=in_channels)


def resnet_digits(*, num_classes: int = 10, in_channels: int = 1) -> ResNet:
    """Return the 14-layer member of the family for 8x8 digits: 0.18 M parameters, 1.7 M multiply-adds."""
    return ResNet(blocks=2, num_classes=num_classes, in_channels=in_channels)
