"""MobileNetV2 in its CIFAR form: the stem and the second stage keep the resolution."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["MobileNetV2", "mobilenet_v2"]

# expansion, output channels, blocks, stride of the first block
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter depthwise by 3x3, project by 1x1; added to the input where shapes agree."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layers = [_conv_bn_relu(in_channels, hidden, 1)] if expansion > 1 else []
        self.conv = nn.Sequential(
            *layers,
            _conv_bn_relu(hidden, hidden, 3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, out, H/stride, W/stride] of an input [N, in, H, W]."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """A stem, 17 inverted residuals, a 1x1 convolution to 1280 channels and one linear layer."""

    def __init__(self, *, num_classes: int, in_channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn_relu(in_channels, 32, 3)]
        width = 32
        for expansion, out_channels, blocks, first_stride in STAGES:
            for stride in (first_stride,) + (1,) * (blocks - 1):
                layers.append(InvertedResidual(width, out_channels, stride=stride, expansion=expansion))
                width = out_channels
        layers.append(_conv_bn_relu(width, 1280, 1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(1280, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, in_channels, H, W]."""
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


def _conv_bn_relu(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU6())


def mobilenet_v2(*, num_classes: int = 10, in_channels: int = 3) -> MobileNetV2:
    """Return MobileNetV2: 2.2 M parameters, 88 M multiply-adds at 32x32."""
    return MobileNetV2(num_classes=num_classes, in_channels=in_channels)
