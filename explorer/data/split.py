"""What a data set is to the rest of the project: three splits of inputs with targets, held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from explorer.utils import fingerprints
from spaces.errors import PruningError

__all__ = ["Data", "Split", "fingerprint", "stratified"]

# inputs that enter a fingerprint, from each split
SAMPLED = 64


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs with targets.

    Attributes
    ----------
    inputs
        Images [n, channels, height, width], uint8 in 0..255 or float32 in 0..1; another tensor [n, ...]; or what
        a model takes as keyword arguments, such as ``input_ids`` and ``attention_mask``, as a mapping of tensors.
    targets
        Labels, int64 [n], each in 0..classes - 1; for another task whatever its loss takes, [n, ...].

    Raises
    ------
    PruningError
        If a part is no tensor, or there is not one target an input.
    """

    inputs: Any
    targets: Tensor

    def __post_init__(self) -> None:
        leaves = [self.targets, *tree_leaves(self.inputs)]
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or not leaf.dim():
                raise PruningError(f"data: a split holds a {type(leaf).__name__}, allowed are tensors [n, ...]")
        if len({len(leaf) for leaf in leaves}) > 1 or len(leaves) < 2:
            sizes = ", ".join(str(len(leaf)) for leaf in leaves[1:]) or "no"
            raise PruningError(
                f"data: a split has {sizes} inputs and {len(self)} targets, needed is one target an input"
            )

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input's first tensor: channels, height and width of an image."""
        return tuple(tree_leaves(self.inputs)[0].shape[1:])

    def subset(self, indices: Tensor | Sequence[int]) -> Split:
        """Return the inputs at `indices` (whole numbers, in any order) as a split of their own."""
        rows = torch.as_tensor(indices, dtype=torch.int64)
        return Split(tree_map(lambda tensor: tensor[rows], self.inputs), self.targets[rows])

    def to(self, device: torch.device | str) -> Split:
        """Return the split with its tensors on `device`."""
        return Split(tree_map(lambda tensor: tensor.to(device), self.inputs), self.targets.to(device))

    def sampled_bytes(self) -> list[bytes]:
        """Return the contents of up to 64 inputs at even distances, by which `fingerprint` tells data apart."""
        rows = torch.arange(0, len(self), max(1, len(self) // SAMPLED))[:SAMPLED]
        return [part.cpu().numpy().tobytes() for tensor in tree_leaves(self.inputs) for part in tensor[rows]]


@dataclass(frozen=True, eq=False)
class Data:
    """A data set of three splits that share no input.

    Attributes
    ----------
    name
        What the user asked for.
    train, validation, test
        `train` and `validation` are in a fixed shuffled order, so that their first batches represent the
        whole. Scoring and search never look at `test`.
    classes
        Number of classes; None where targets are no classes.
    mean, std
        One value a channel, for images scaled to 0..1. Defaults only: normalisation belongs to a model's
        weights. Empty for inputs that are no images, which are given to models as they are.
    identity
        Hash of the targets, sizes and a sample of inputs of every split, see `fingerprint`.
    crop, flip
        The augmentation of training images: pixels of padding for a random crop, and whether a mirrored image keeps
        its label. None by default.
    notes
        Sentences about choices made while loading that a user should know of.

    Raises
    ------
    PruningError
        If a split is none, or is empty.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    identity: str
    crop: int = 0
    flip: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("train", "validation", "test"):
            split = getattr(self, name)
            if not isinstance(split, Split):
                raise PruningError(f"data: {name} is a {type(split).__name__}, allowed is an explorer.data.Split")
            if not len(split):
                raise PruningError(f"data: {name} is empty")

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width of one image; shape of one input's first tensor otherwise."""
        return self.train.shape


def fingerprint(*splits: Split) -> str:
    """Return 16 hexadecimal digits that tell these splits from others.

    Sizes and targets enter completely, inputs as a sample of 64 from each split.
    """
    parts = [[len(split), list(split.shape), split.targets, split.sampled_bytes()] for split in splits]
    return fingerprints.fingerprint(parts)


def stratified(
    labels: np.ndarray[Any, np.dtype[np.int64]], count: int, *, generator: np.random.Generator
) -> tuple[np.ndarray[Any, np.dtype[np.int64]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the indices of all but `count` items and of those `count`, both shuffled.

    Every class gets its share of `count` to within one item, classes of a single item included.

    Parameters
    ----------
    labels
        [n].
    count
        0..n.
    generator
        The only source of randomness.
    """
    order = generator.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    # evenly spaced over the items in class order: proportional without any arithmetic on classes
    positions = np.floor((np.arange(count) + 0.5) * len(labels) / max(count, 1)).astype(np.int64)
    rest, chosen = np.delete(by_class, positions), by_class[positions]
    return generator.permutation(rest), generator.permutation(chosen)
