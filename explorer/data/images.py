"""Any set of labelled images that the `datasets` library reads, from a folder or from the hub."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from explorer.data.columns import image_source
from explorer.data.encoded import EncodedSplit, Source
from explorer.data.parts import Part, read_parts
from explorer.data.reading import GIB
from explorer.data.split import Data, Split, fingerprint
from spaces.errors import PruningError

__all__ = ["load_cifar10", "load_images"]

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


def load_images(
    path: str | Path | None = None,
    hub: str | None = None,
    *,
    validation: float = 0.1,
    size: int | None = None,
    max_gib: float = 8.0,
    seed: int = 0,
) -> Data:
    """Return a set of labelled images; each split is decoded when its images are first read.

    Parameters
    ----------
    path
        A local folder: parquet files in Hugging Face schema, or folders of images a class. Nothing goes to
        the network.
    hub
        Without a path: a data set of the hub, such as ``uoft-cs/cifar10``.
    validation
        Images to carve out of train, stratified: a count, or a share below 1. A set
        that has validation and test of its own keeps them; one without a labelled test gives its validation
        as test, or as many train images.
    size
        Height and width: images are resized along their shorter side and cropped at the centre. None if
        all have one size.
    max_gib
        The most memory, in GiB, that the decoded images may need.
    seed
        Which images are carved out of train; test is the same for all seeds.

    Raises
    ------
    PruningError
        One line starting with ``data`` (the hub), ``data.path``, ``data.validation``, ``data.size`` or
        ``data.max_gib``.
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise PruningError(f"data.size: {size!r} is not a whole number of at least 1 pixel")
    found = read_parts(path, hub, validation=validation, max_gib=max_gib, seed=seed)
    sources = _sources(found.parts, size=size, max_gib=max_gib, key=found.key)
    train, validated, test = (
        EncodedSplit(source, part.rows, torch.from_numpy(part.labels))
        for source, part in zip(sources, found.parts, strict=True)
    )
    mean, std = _statistics(train)
    return Data(
        name=found.name,
        train=train,
        validation=validated,
        test=test,
        classes=found.classes,
        mean=mean,
        std=std,
        identity=fingerprint(train, validated, test),
        crop=max(1, min(train.shape[1:]) // 8),
        flip=True,
        notes=found.notes,
    )


def load_cifar10(path: str | Path | None = None, *, validation: float = 5000, seed: int = 0) -> Data:
    """Return CIFAR-10 from a local folder or, without one, from the hub (``uoft-cs/cifar10``).

    Parameters and errors are those of `load_images`.
    """
    data = load_images(path, "uoft-cs/cifar10", validation=validation, seed=seed)
    if data.shape != (3, 32, 32) or data.classes != 10:
        raise PruningError(
            f"data.path: {data.classes} classes of {data.shape} images are not CIFAR-10; use data=images"
        )
    return replace(data, name="cifar10", mean=CIFAR10_MEAN, std=CIFAR10_STD)


def _sources(parts: Sequence[Part], *, size: int | None, max_gib: float, key: str) -> list[Source]:
    """Return the images' source for each part, having checked that shapes agree and memory suffices."""
    sources = [image_source(part.dataset, size=size, key=key) for part in parts]
    channels = max(source.shape[0] for source in sources)
    _, height, width = sources[0].shape
    for source in sources:
        if source.shape[1:] != (height, width):
            raise PruningError(
                f"data.size: splits have images of different sizes ({height}x{width} and "
                f"{source.shape[1]}x{source.shape[2]}); set the size they are resized to"
            )
    gib = sum(len(part.rows) for part in parts) * channels * height * width / GIB
    if gib > max_gib:
        raise PruningError(
            f"data.max_gib: the decoded images need {gib:.1f} GiB, {max_gib} are allowed; raise it, set a smaller "
            "data.size, or pass loaders of your own to explorer.explore"
        )
    return [replace(source, shape=(channels, height, width)) for source in sources]


def _statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel in 0..1, over the first 512 images."""
    pixels = split.subset(range(min(len(split), 512))).inputs.float().div_(255)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3)
    return tuple(round(v, 4) for v in mean.tolist()), tuple(round(v, 4) for v in std.tolist())
