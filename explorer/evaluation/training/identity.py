"""Identity of training batches: what tells data that networks were trained on from other data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from explorer.data import Batches
from explorer.data.split import SAMPLED
from explorer.evaluation.training.seeding import seeded
from explorer.utils.fingerprints import fingerprint

__all__ = ["identity_of"]


def identity_of(batches: Iterable[Any]) -> str:
    """Return 16 hexadecimal digits that tell training batches from others.

    Parameters
    ----------
    batches
        Our own, whose split enters as `explorer.data.fingerprint` has it; a list of batches, which enters whole; a
        loader, whose dataset enters with its tensors where it is made of tensors, else with 64 of its items at even
        distances. Of any other iterable only the type and the length are known.
    """
    if isinstance(batches, Batches):
        split = batches.split
        data = [len(split), list(split.shape), split.targets, split.sampled_bytes()]
        how = [batches.batch_size, list(batches.mean), list(batches.std), batches.crop, batches.flip]
        return fingerprint(data, how, batches.generator is not None)
    if isinstance(batches, list | tuple):
        return fingerprint(batches)
    kind = f"{type(batches).__module__}.{type(batches).__qualname__}"
    try:
        length = len(batches)  # type: ignore[arg-type]
    except TypeError:
        length = None
    return fingerprint(kind, length, getattr(batches, "batch_size", None), _dataset(getattr(batches, "dataset", None)))


def _dataset(dataset: Any) -> Any:
    """Return the part of a loader's dataset that stands for it."""
    if isinstance(tensors := getattr(dataset, "tensors", None), tuple):
        return tensors
    try:
        count = len(dataset)
        # transforms may draw numbers
        with seeded(0, torch.device("cpu")):
            return [count, [dataset[place] for place in range(0, count, max(1, count // SAMPLED))[:SAMPLED]]]
    except Exception:  # of a user's dataset, which may be of any kind
        return f"{type(dataset).__module__}.{type(dataset).__qualname__}"
