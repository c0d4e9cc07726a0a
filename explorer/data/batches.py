"""Batches of a split: normalised and augmented where its inputs are images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map

from explorer.data.split import Split
from explorer.data.structure import Batch
from spaces.errors import PruningError

__all__ = ["Batches"]


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of a split; can be read any number of times, and has a length.

    Attributes
    ----------
    split, batch_size
        What is read, and how many images at a time.
    mean, std
        One value a channel, for images scaled to 0..1. Both empty: inputs are given as they are.
    device
        Where the batches are wanted.
    generator
        None: every image once and in order, the last batch may be short. Otherwise a CPU generator: every
        reading is another shuffled epoch, and a short last batch is left out (batch norm can't train on one image).
    crop, flip
        Pixels of zero padding for a random crop; mirror every second image. Only with a generator.

    Raises
    ------
    PruningError
        If `mean` or `std` doesn't fit the images' channels, or `batch_size` is below 1.
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
        if len(self.mean) and len(self.split.shape) != 3:
            shape = list(self.split.shape)
            raise PruningError(f"model.mean: {list(self.mean)}, allowed is null for inputs {shape} that are no images")
        channels = len(self.mean) and self.split.shape[0]
        for key, values in (("model.mean", self.mean), ("model.std", self.std)):
            if len(values) != channels:
                raise PruningError(f"{key}: {len(values)} values for images of {channels} channels")
        if min(self.std, default=1) <= 0:
            raise PruningError(f"model.std: {list(self.std)} must be above 0")
        if self.batch_size < 1:
            raise PruningError(f"batch_size: {self.batch_size} must be at least 1")

    def __len__(self) -> int:
        full, tail = divmod(len(self.split), self.batch_size)
        return full + (tail > 0 if self.generator is None or not full else 0)

    def __iter__(self) -> Iterator[Batch]:
        inputs, targets = self.split.inputs, self.split.targets
        order = None if self.generator is None else torch.randperm(len(targets), generator=self.generator)
        for step in range(len(self)):
            rows: slice | Tensor = slice(step * self.batch_size, (step + 1) * self.batch_size)
            if order is not None:
                rows = order[rows].to(targets.device)
            x = tree_map(lambda tensor, rows=rows: tensor[rows].to(self.device), inputs)
            yield self._normalised(x) if len(self.mean) else x, targets[rows].to(self.device)

    def _normalised(self, images: Tensor) -> Tensor:
        scale = 1 / 255 if images.dtype == torch.uint8 else 1.0
        std = torch.tensor(self.std, device=self.device).view(-1, 1, 1)
        shift = -torch.tensor(self.mean, device=self.device).view(-1, 1, 1) / std
        if self.generator is not None:
            images = _augment(images, crop=self.crop, flip=self.flip, generator=self.generator)
        # not in place: a float32 split would be normalised again at every reading
        return (images * (scale / std)).add_(shift)


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
