"""A split of compressed images, decoded when they are first asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from explorer.data.split import SAMPLED, Split
from spaces.errors import PruningError

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["EncodedSplit", "Source", "content", "different_sizes"]

BLOCK = 256
# Pillow needs less time for a smaller image than two threads need to hand the interpreter lock over
# (50,000 images of 32x32 on two cores: 4.7 s with one thread, 7.7 s with two)
THREADED_FROM = 64


@dataclass(frozen=True)
class Source:
    """Where compressed images lie and what they become.

    Attributes
    ----------
    dataset, column
        A Hugging Face data set and its image column, cast to ``decode=False``.
    shape
        Channels (1 or 3), height and width that every decoded image has.
    resize
        Whether images are resized and centre-cropped to `shape`; otherwise another size is an error.
    key
        The configuration key to blame for a broken image.
    """

    dataset: Dataset
    column: str
    shape: tuple[int, int, int]
    resize: bool
    key: str

    def contents(self, rows: Sequence[int]) -> list[bytes]:
        """Return the compressed bytes of some images."""
        return [content(entry) for entry in self.dataset[rows][self.column]]

    def decode(self, rows: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
        """Return images as uint8 [len(rows), channels, height, width]."""
        channels, height, width = self.shape
        # what is decoded while a network is evaluated may be trained on later
        with torch.inference_mode(False):
            out = torch.empty((len(rows), channels, height, width), dtype=torch.uint8)

        def fill(start: int) -> None:
            block = rows[start : start + BLOCK].tolist()
            pixels = [self._pixels(content, row) for content, row in zip(self.contents(block), block, strict=True)]
            array = np.stack(pixels).reshape(len(block), height, width, channels)
            out[start : start + BLOCK] = torch.from_numpy(array).permute(0, 3, 1, 2)

        workers = 1 if max(height, width) < THREADED_FROM else os.cpu_count()
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, range(0, len(rows), BLOCK)))
        return out

    def _pixels(self, content: bytes, row: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        channels, height, width = self.shape
        mode = "L" if channels == 1 else "RGB"
        try:
            with Image.open(BytesIO(content)) as opened:
                image = opened if opened.mode == mode else opened.convert(mode)
                if self.resize:
                    image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
                pixels = np.asarray(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise PruningError(f"{self.key}: image {row} can't be decoded: {error}") from error
        if pixels.shape[:2] != (height, width):
            raise different_sizes(pixels.shape[1::-1], (width, height))
        return pixels


class EncodedSplit(Split):
    """Some rows of a `Source`, as a split.

    ``inputs`` decodes the whole split once and keeps it; ``subset`` decodes only what it returns.
    """

    def __init__(self, source: Source, rows: np.ndarray[Any, np.dtype[np.int64]], labels: Tensor) -> None:
        # the base class is frozen
        self.__dict__.update(source=source, rows=rows, targets=labels)

    source: Source
    rows: np.ndarray[Any, np.dtype[np.int64]]

    @cached_property
    def inputs(self) -> Tensor:
        """Images uint8 [n, channels, height, width]."""
        return self.source.decode(self.rows)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one image."""
        return self.source.shape

    def subset(self, indices: Tensor | Sequence[int]) -> Split:
        """Return the images at `indices` as a split of their own, decoding no others."""
        if "inputs" in self.__dict__:
            return super().subset(indices)
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return Split(self.source.decode(self.rows[rows.numpy()]), self.targets[rows])

    def sampled_bytes(self) -> list[bytes]:
        """Return the compressed contents of up to 64 images at even distances."""
        return self.source.contents(self.rows[:: max(1, len(self) // SAMPLED)][:SAMPLED].tolist())


def different_sizes(one: Sequence[int], other: Sequence[int]) -> PruningError:
    """Return the error for images of two sizes (width, height)."""
    sizes = " and ".join(f"{width}x{height}" for width, height in (one, other))
    return PruningError(f"data.size: images have different sizes ({sizes}); set the size they are resized to")


def content(entry: Mapping[str, Any]) -> bytes:
    # a folder of images is kept as paths, a parquet file holds the bytes
    return entry["bytes"] if entry["bytes"] is not None else Path(entry["path"]).read_bytes()
