"""VGG-16 with batch normalisation in its CIFAR form."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["VGG", "vgg16_bn"]

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """Thirteen 3x3 convolutions, a 2x2 max pooling after each of five stages, one linear layer.

    Images must be 32x32, so that the last pooling leaves one pixel.
    """

    def __init__(self, *, num_classes: int, in_channels: int, scale: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for stage in WIDTHS:
            for width in (max(1, round(scale * full)) for full in stage):
                layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
                in_channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(in_channels, num_classes)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, num_classes] of images [N, in_channels, 32, 32]."""
        return self.classifier(self.features(x).flatten(1))


def vgg16_bn(*, num_classes: int = 10, in_channels: int = 3, scale: float = 1.0) -> VGG:
    """Return VGG-16-BN for 32x32 images: 14.7 M parameters, 313 M multiply-adds.

    All widths are multiplied by `scale`.
    """
    return VGG(num_classes=num_classes, in_channels=in_channels, scale=scale)
