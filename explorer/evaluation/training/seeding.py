"""Randomness of an epoch: from a seed alone, so that nothing random has to be stored."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import length_hint
from typing import Any

import numpy as np
import torch

from explorer.data import Batch, Batches, draw

__all__ = ["epoch_of", "seed_of", "seeded"]


def seed_of(*parts: Any) -> int:
    """Return a seed in 0..2^63 - 1 that is a function of values that can be written as JSON."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed all that a network or a user's loader may draw from, and give it back as it was."""
    before = random.getstate(), np.random.get_state()  # noqa: NPY002 - users' transforms draw from it
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002


def epoch_of(batches: Iterable[Any], seed: int) -> Iterable[Batch]:
    """Return the batches of one epoch, shuffled and augmented as the seed says.

    Parameters
    ----------
    batches
        Our own with a generator, which gives way to one with this seed; or a user's iterable, as `explorer.data.draw`
        takes it. The generators of a DataLoader and its samplers are seeded, without one they draw from the global
        one: see `seeded`.
    """
    if isinstance(batches, Batches):
        shuffled = batches.generator is not None
        return replace(batches, generator=torch.Generator().manual_seed(seed)) if shuffled else batches
    for generator in _generators(batches):
        generator.manual_seed(seed)
    return _Read(batches)


def _generators(loader: Any) -> Iterator[torch.Generator]:
    """Yield the generators of a loader and of the samplers that it reads by, each perhaps more than once."""
    generator = getattr(loader, "generator", None)
    if isinstance(generator, torch.Generator):
        yield generator
    for part in ("sampler", "batch_sampler"):
        if (sampler := getattr(loader, part, None)) is not None and sampler is not loader:
            yield from _generators(sampler)


@dataclass(frozen=True)
class _Read:
    """A user's batches as inputs and targets, one at a time."""

    loader: Iterable[Any]

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield draw([batch], key="train")[0]

    def __length_hint__(self) -> int:
        return length_hint(self.loader)
