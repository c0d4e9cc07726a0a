"""Finding images, labels and the images' shape in a Hugging Face data set."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from explorer.data.encoded import Source, content, different_sizes
from spaces.errors import PruningError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["image_source", "labels_of"]

IMAGE_NAMES = ("image", "img")
LABEL_NAMES = ("label", "labels", "fine_label", "class", "target")
PROBED = 100


def image_source(dataset: Dataset, *, size: int | None, key: str) -> Source:
    """Return where the images of a split lie and the shape they have, judged by its first hundred.

    Parameters
    ----------
    dataset
        One split.
    size
        Height and width to resize to; None if all images have one size.
    key
        The configuration key to blame.

    Raises
    ------
    PruningError
        If there is no image column, an image is broken, or sizes differ and `size` is None.
    """
    import datasets

    features = dataset.features
    named = [name for name in IMAGE_NAMES if _holds_bytes(features.get(name))]
    found = [name for name, feature in features.items() if isinstance(feature, datasets.Image)] or named
    if not found:
        raise PruningError(f"{key}: no column of images; the columns are {', '.join(features)}")
    if not len(dataset):
        raise PruningError(f"{key}: a split holds no images")
    column = found[0]
    dataset = dataset.cast_column(column, datasets.Image(decode=False))
    modes, sizes = [], []
    for row, entry in enumerate(dataset[:PROBED][column]):
        try:
            with Image.open(BytesIO(content(entry))) as image:
                modes.append(image.mode)
                sizes.append(image.size)
        except (OSError, TypeError) as error:
            raise PruningError(f"{key}: image {row} can't be opened: {error}") from error
    if size is None and (other := [found for found in sizes if found != sizes[0]]):
        raise different_sizes(sizes[0], other[0])
    width, height = sizes[0] if size is None else (size, size)
    channels = 1 if set(modes) <= {"1", "L"} else 3
    return Source(dataset, column, (channels, height, width), resize=size is not None, key=key)


def labels_of(dataset: Dataset, *, key: str) -> tuple[np.ndarray[Any, np.dtype[np.int64]], int]:
    """Return the labels of a split [n] and the number of classes.

    A negative label is the hub's sign for a split whose labels are withheld.

    Raises
    ------
    PruningError
        If there is no label column, or it holds anything but whole numbers.
    """
    import datasets

    features = dataset.features
    by_type = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    named = [name for name in LABEL_NAMES if name in features]
    # a set with several labellings (CIFAR-100) has the usual one under a usual name
    found = [name for name in named if name in by_type] or by_type or named
    if not found:
        raise PruningError(f"{key}: no column of labels; the columns are {', '.join(features)}")
    values = dataset.data.column(found[0]).to_numpy()
    if not np.issubdtype(values.dtype, np.integer):
        raise PruningError(f"{key}: the labels in column {found[0]!r} are not whole numbers")
    named_classes = getattr(features[found[0]], "num_classes", None)
    return values.astype(np.int64), named_classes or int(values.max(initial=0)) + 1


def _holds_bytes(feature: Any) -> bool:
    """Return whether a column without the Image type has its layout, or is plain bytes."""
    if isinstance(feature, dict):
        return set(feature) == {"bytes", "path"}
    return getattr(feature, "dtype", None) in ("binary", "large_binary")
