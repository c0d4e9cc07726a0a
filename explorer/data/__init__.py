"""Data sets and batches: a table of loaders, open to any user class that gives a `Data`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from explorer.data.batches import Batches, augmented, batches
from explorer.data.digits import load_digits
from explorer.data.images import load_cifar10, load_images
from explorer.data.split import Data, Split, fingerprint
from explorer.data.structure import Batch, draw, head, moved, size_of
from explorer.data.text import load_text
from spaces.errors import unknown

__all__ = [
    "DATA",
    "Batch",
    "Batches",
    "Data",
    "Split",
    "augmented",
    "batches",
    "draw",
    "fingerprint",
    "head",
    "load",
    "moved",
    "size_of",
]

DATA: dict[str, Callable[..., Data]] = {
    "cifar10": load_cifar10,
    "digits": load_digits,
    "images": load_images,
    "text": load_text,
}


def load(name: str, /, **options: Any) -> Data:
    """Return a built-in data set.

    Parameters
    ----------
    name
        A key of `DATA`; by position, since ``images`` has an option ``name``.
    options
        The loader's own: ``path``, ``validation``, and for ``images`` also ``name``, ``size``, ``max_gib``.

    Raises
    ------
    PruningError
        If the name is unknown, or as the loader says.

    Examples
    --------
    >>> len(load("digits").train)
    1000
    """
    if name not in DATA:
        raise unknown("data", name, DATA)
    return DATA[name](**options)
