"""Published sizes of known networks, the few golden numbers of the tests, and what is counted of all."""

from __future__ import annotations

# costs of every network; memory is one of language models only
COUNTED = ("flops", "params", "bytes")

# name: multiply-adds and parameters of the CIFAR networks in millions, at 32 x 32 and ten classes;
# ResNets: He et al. 2016 (parameters) and the pruning literature (multiply-adds), VGG: Li et al. 2017
KNOWN: dict[str, tuple[float, float | None]] = {
    "resnet20": (40.55, 0.27),
    "resnet56": (125.5, 0.85),
    "resnet110": (252.9, 1.7),
    "vgg16_bn": (313.0, None),
}


def image_size(model: str) -> tuple[int, int, int]:
    """Return channels, height and width of a built-in network's input."""
    return (1, 8, 8) if model.endswith("_digits") else (3, 32, 32)
