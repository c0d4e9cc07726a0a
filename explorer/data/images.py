"""Any set of labelled images that the `datasets` library reads, from a folder or from the hub."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from explorer.data.columns import image_source, labels_of
from explorer.data.encoded import EncodedSplit, Source
from explorer.data.reading import GIB, read_folder, read_hub
from explorer.data.split import Data, Split, fingerprint, stratified
from spaces.errors import PruningError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["load_cifar10", "load_images"]

SPLIT_SEED = 0
VALIDATION_NAMES = ("validation", "valid", "val")
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


def load_images(
    path: str | Path | None = None,
    hub: str | None = None,
    *,
    validation: float = 0.1,
    size: int | None = None,
    max_gib: float = 8.0,
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
        Images to carve out of train, stratified and with a fixed seed: a count, or a share below 1. A set
        that has validation and test of its own keeps them; one without a labelled test gives its validation
        as test, or as many train images.
    size
        Height and width: images are resized along their shorter side and cropped at the centre. None if
        all have one size.
    max_gib
        The most memory, in GiB, that the decoded images may need.

    Raises
    ------
    PruningError
        One line starting with ``data`` (the hub), ``data.path``, ``data.validation``, ``data.size`` or
        ``data.max_gib``.
    """
    if path is None and hub is None:
        raise PruningError("data.path: give a folder (data.path) or a name on the hub (data.hub)")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise PruningError(f"data.size: {size!r} is not a whole number of at least 1 pixel")
    if path is not None:
        splits, key = read_folder(path, max_gib=max_gib), "data.path"
    else:
        assert hub is not None
        splits, key = read_hub(hub), "data"
    if "train" not in splits:
        raise PruningError(f"{key}: no split named train; the splits are {', '.join(splits)}")
    # other splits (unlabelled extras) needn't even have the same columns
    used = [name for name in ("train", "test", *VALIDATION_NAMES) if name in splits and len(splits[name])]
    labelled = {name: labels_of(splits[name], key=key) for name in used}
    labels = {name: values for name, (values, _) in labelled.items()}
    parts, notes = _parts(splits, labels, validation=validation, key=key)
    sources = _sources(parts, size=size, max_gib=max_gib, key=key)
    train, validated, test = (
        EncodedSplit(source, rows, torch.from_numpy(labels[rows]))
        for source, (_, labels, rows) in zip(sources, parts, strict=True)
    )
    mean, std = _statistics(train)
    return Data(
        name=Path(path).name if path is not None else str(hub),
        train=train,
        validation=validated,
        test=test,
        classes=max(classes for _, classes in labelled.values()),
        mean=mean,
        std=std,
        identity=fingerprint(train, validated, test),
        crop=max(1, min(train.shape[1:]) // 8),
        notes=notes,
    )


def load_cifar10(path: str | Path | None = None, *, validation: float = 5000) -> Data:
    """Return CIFAR-10 from a local folder or, without one, from the hub (``uoft-cs/cifar10``).

    Parameters and errors are those of `load_images`.
    """
    data = load_images(path, "uoft-cs/cifar10", validation=validation)
    if data.shape != (3, 32, 32) or data.classes != 10:
        raise PruningError(
            f"data.path: {data.classes} classes of {data.shape} images are not CIFAR-10; use data=images"
        )
    return replace(data, name="cifar10", mean=CIFAR10_MEAN, std=CIFAR10_STD)


_Integers: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"
# a split of the library, its labels, and the rows of it that are used
_Part: TypeAlias = tuple["Dataset", _Integers, _Integers]


def _parts(
    splits: Mapping[str, Dataset], labels: Mapping[str, _Integers], *, validation: float, key: str
) -> tuple[tuple[_Part, _Part, _Part], tuple[str, ...]]:
    """Decide which rows of which split are train, validation and test, and say what was not as expected."""
    notes = []
    if labels.get("train", np.array([-1])).min() < 0:
        raise PruningError(f"{key}: the train split is empty or has images without a label")
    labelled = {name: values for name, values in labels.items() if values.min() >= 0}
    if "test" in labels and "test" not in labelled:
        notes.append("the test split has no labels and is not used")

    def whole(name: str) -> _Part:
        return splits[name], labels[name], np.arange(len(labels[name]))

    generator = np.random.default_rng(SPLIT_SEED)
    rest = generator.permutation(len(labels["train"]))

    def carve() -> _Part:
        nonlocal rest
        count = _count(validation, len(labels["train"]), len(rest))
        inner, chosen = stratified(labels["train"][rest], count, generator=generator)
        rows, rest = rest[chosen], rest[inner]
        return splits["train"], labels["train"], rows

    own = next((name for name in VALIDATION_NAMES if name in labelled), None)
    if "test" in labelled:
        test = whole("test")
    elif own is not None:
        notes.append(f"there is no labelled test split: {own} is used as test, validation is carved out of train")
        test, own = whole(own), None
    else:
        notes.append("there is no labelled test split: test is carved out of train")
        test = carve()
    shuffled = None if own is None else (splits[own], labels[own], generator.permutation(len(labels[own])))
    validated = shuffled or carve()
    return ((splits["train"], labels["train"], rest), validated, test), tuple(notes)


def _count(validation: float, total: int, left: int) -> int:
    """Return the number of images to carve out of `left` ones."""
    number = isinstance(validation, int | float)
    count = math.floor(validation * total + 0.5) if number and 0 < validation < 1 else validation
    if not number or not 1 <= count < left or count != int(count):
        raise PruningError(
            f"data.validation: {validation!r} is neither a share below 1 nor a count that fits {total} train images"
        )
    return int(count)


def _sources(parts: tuple[_Part, _Part, _Part], *, size: int | None, max_gib: float, key: str) -> list[Source]:
    """Return the images' source for each part, having checked that shapes agree and memory suffices."""
    sources = [image_source(dataset, size=size, key=key) for dataset, _, _ in parts]
    channels = max(source.shape[0] for source in sources)
    _, height, width = sources[0].shape
    for source in sources:
        if source.shape[1:] != (height, width):
            raise PruningError(
                f"data.size: splits have images of different sizes ({height}x{width} and "
                f"{source.shape[1]}x{source.shape[2]}); set the size they are resized to"
            )
    gib = sum(len(rows) for _, _, rows in parts) * channels * height * width / GIB
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
