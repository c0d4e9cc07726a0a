"""Normalised and augmented batches of a split, and batches drawn from a user's own loader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.data.split import Split
from spaces.errors import PruningError

__all__ = ["Batch", "Batches", "augmented", "batches", "draw"]

# float32 images [n, c, h, w] and int64 labels [n]
Batch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of a split; can be read any number of times, and has a length.

    Attributes
    ----------
    split, batch_size
        What is read, and how many images at a time.
    mean, std
        One value a channel, for images scaled to 0..1.
    device
        Where the batches are wanted.
    generator
        None: every image once and in order, the last batch may be short. Otherwise a CPU generator: every
        reading is another shuffled epoch, and a short last batch is left out.
    crop, flip
        Pixels of zero padding for a random crop; mirror every second image. Only with a generator.
    """

    split: Split
    batch_size: int
    mean: Sequence[float]
    std: Sequence[float]
    device: torch.device | str = "cpu"
    generator: torch.Generator | None = None
    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        channels = self.split.shape[0]
        for key, values in (("model.mean", self.mean), ("model.std", self.std)):
            if len(values) != channels:
                raise PruningError(f"{key}: {len(values)} values for images of {channels} channels")
        if min(self.std) <= 0:
            raise PruningError(f"model.std: {list(self.std)} must be above 0")
        if self.batch_size < 1:
            raise PruningError(f"batch_size: {self.batch_size} must be at least 1")

    def __len__(self) -> int:
        full, tail = divmod(len(self.split), self.batch_size)
        return full + (tail > 0 if self.generator is None or not full else 0)

    def __iter__(self) -> Iterator[Batch]:
        images, labels = self.split.images, self.split.labels
        scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
        std = torch.tensor(self.std, device=self.device).view(-1, 1, 1)
        shift = -torch.tensor(self.mean, device=self.device).view(-1, 1, 1) / std
        order = None if self.generator is None else torch.randperm(len(labels), generator=self.generator)
        for step in range(len(self)):
            rows: slice | Tensor = slice(step * self.batch_size, (step + 1) * self.batch_size)
            if order is not None:
                rows = order[rows].to(labels.device)
            x = images[rows].to(self.device)
            if self.generator is not None:
                x = _augment(x, crop=self.crop, flip=self.flip, generator=self.generator)
            # not in place: a float32 split would be normalised again at every reading
            yield (x * (scale / std)).add_(shift), labels[rows].to(self.device)


def batches(
    split: Split,
    batch_size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device | str = "cpu",
) -> Batches:
    """Return the normalised batches of a split in its own order.

    Parameters
    ----------
    split, batch_size
        The last batch may be short.
    mean, std
        One value a channel, for images scaled to 0..1.
    device
        Where the batches are wanted.

    Raises
    ------
    PruningError
        If `mean` or `std` doesn't fit the images' channels, or `batch_size` is below 1.
    """
    return Batches(split, batch_size, mean, std, device)


def augmented(
    split: Split,
    batch_size: int,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    generator: torch.Generator,
    crop: int = 4,
    flip: bool = True,
    device: torch.device | str = "cpu",
) -> Batches:
    """Return shuffled, randomly cropped and mirrored batches; every reading of them is another epoch.

    Parameters
    ----------
    split, batch_size
        An incomplete last batch is left out (batch normalisation can't train on one image).
    mean, std
        One value a channel, for images scaled to 0..1.
    generator
        A CPU generator, advanced by every reading.
    crop
        Pixels of zero padding on each side before a crop of the original size; 0 for none.
    flip
        Whether every second image is mirrored.
    device
        Where the batches are wanted.

    Raises
    ------
    PruningError
        As `batches`.
    """
    return Batches(split, batch_size, mean, std, device, generator, crop, flip)


def _augment(x: Tensor, *, crop: int, flip: bool, generator: torch.Generator) -> Tensor:
    """Return each image of [n, c, h, w] shifted by up to `crop` pixels and possibly mirrored, in one gather."""
    n, channels, height, width = x.shape
    # drawn on the CPU, so that every device sees the same; the rest is made where the images are
    offsets = torch.randint(2 * crop + 1, (2, n, 1), generator=generator).to(x.device)
    mirrored = (torch.rand(n, 1, generator=generator) < (0.5 if flip else 0.0)).to(x.device)
    columns = torch.arange(width, device=x.device).expand(n, width)
    columns = torch.where(mirrored, width - 1 - columns, columns) + offsets[0]
    rows = torch.arange(height, device=x.device) + offsets[1]
    places = rows[:, :, None] * (width + 2 * crop) + columns[:, None, :]
    places = places.view(n, 1, -1).expand(-1, channels, -1)
    padded = F.pad(x, (crop, crop, crop, crop))
    return padded.flatten(2).gather(2, places).view_as(x)


def draw(loader: Iterable[Batch], count: int | None = None, *, key: str = "loader") -> list[Batch]:
    """Return the first `count` batches of a user's loader, to be kept and read again and again.

    Parameters
    ----------
    loader
        A DataLoader, a list, or anything else that yields pairs (inputs, labels) every time it is read.
    count
        How many; None for all. A shorter loader gives what it has.
    key
        What the user calls the loader, for messages.

    Raises
    ------
    PruningError
        If the loader can be read only once, is empty, or yields anything but pairs of tensors.

    Examples
    --------
    >>> loader = [(torch.zeros(2, 3), torch.tensor([0, 1]))] * 5
    >>> len(draw(loader, 2))
    2
    """
    # not `iter(loader) is loader`, which would start a DataLoader's workers
    if isinstance(loader, Iterator):
        kind = type(loader).__name__
        raise PruningError(
            f"{key}: an iterator ({kind}) can be read only once; give a DataLoader, a list or another iterable"
        )
    kept: list[Batch] = []
    for batch in islice(loader, count):
        if (
            not isinstance(batch, tuple | list)
            or len(batch) != 2
            or not all(isinstance(part, Tensor) for part in batch)
        ):
            raise PruningError(f"{key}: yields {type(batch).__name__}, not pairs (inputs, labels) of tensors")
        inputs, labels = batch
        if not len(inputs) or labels.shape != inputs.shape[:1]:
            raise PruningError(
                f"{key}: a batch has inputs {list(inputs.shape)} and labels {list(labels.shape)}; "
                "one label an input is needed"
            )
        kept.append((inputs, labels.long()))
    if not kept:
        raise PruningError(f"{key}: yields no batch")
    return kept
