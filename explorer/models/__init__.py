"""The built-in networks: a table of factories, those of other libraries, and reading their weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from explorer.models.densenet import densenet40
from explorer.models.mobilenet import mobilenet_v2
from explorer.models.resnet import resnet20, resnet32, resnet44, resnet56, resnet110, resnet_digits
from explorer.models.unused import drop_unused
from explorer.models.vgg import vgg16_bn
from explorer.models.vit import vit_digits, vit_tiny
from explorer.models.weights import load_weights
from explorer.models.zoo import timm, torchvision, transformers
from spaces.errors import PruningError, unknown

__all__ = ["MODELS", "build", "drop_unused", "load_weights", "timm", "torchvision", "transformers"]

MODELS: dict[str, Callable[..., nn.Module]] = {
    "densenet40": densenet40,
    "mobilenet_v2": mobilenet_v2,
    "resnet20": resnet20,
    "resnet32": resnet32,
    "resnet44": resnet44,
    "resnet56": resnet56,
    "resnet110": resnet110,
    "resnet_digits": resnet_digits,
    "vgg16_bn": vgg16_bn,
    "vit_digits": vit_digits,
    "vit_tiny": vit_tiny,
}


def build(name: str, **options: int) -> nn.Module:
    """Return a freshly initialised built-in network.

    torch draws initial weights from its global generator: a caller who wants them reproducible wraps the
    call in ``torch.random.fork_rng()`` and seeds inside.

    Parameters
    ----------
    name
        A key of `MODELS`.
    options
        The factory's keyword arguments: ``num_classes`` and ``in_channels``, both at least 1.

    Raises
    ------
    PruningError
        If the name is unknown or an option is not a positive whole number.

    Examples
    --------
    >>> sum(p.numel() for p in build("resnet56").parameters())
    853018
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    for key, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise PruningError(f"model.{key}: {value!r} is not a whole number of at least 1")
    return MODELS[name](**options)
