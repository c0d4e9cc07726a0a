"""Latency as it is on this machine: DESIGN.md's protocol."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

__all__ = ["Timing", "in_turns", "interleaved"]

WARM_UPS = 5
RUNS = 30
SECONDS = 0.5


@dataclass(frozen=True)
class Timing:
    """The times of repeated runs in milliseconds, or their ratios to another's, one a turn."""

    times: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return float(np.median(self.times))

    @property
    def lower(self) -> float:
        """The lower quartile."""
        return float(np.percentile(self.times, 25))

    @property
    def upper(self) -> float:
        """The upper quartile."""
        return float(np.percentile(self.times, 75))

    def over(self, other: Timing) -> Timing:
        """Return the ratios to another contestant's times, each of one turn: a busy moment hits both."""
        return Timing(tuple(np.array(self.times) / np.array(other.times)))


def interleaved(contestants: list[Callable[[], object]], *, runs: int = RUNS, seconds: float = SECONDS) -> list[Timing]:
    """Return the timing of each contestant, run in turns so that a busy moment hits all of them.

    Turns end after `runs` of them, or earlier once they took `seconds` a contestant (but not before five).
    """
    for _ in range(WARM_UPS):
        for contestant in contestants:
            contestant()
    samples: list[list[float]] = [[] for _ in contestants]
    begin = time.perf_counter()
    for turn in range(runs):
        if turn >= WARM_UPS and time.perf_counter() - begin > seconds * len(contestants):
            break
        for contestant, times in zip(contestants, samples, strict=True):
            start = time.perf_counter()
            contestant()
            times.append(1000 * (time.perf_counter() - start))
    return [Timing(tuple(times)) for times in samples]


def in_turns(contestants: list[Callable[[], object]]) -> list[Timing]:
    """Return the timing of each contestant while no other process of the machine measures: a lock is shared by all."""
    lock = FileLock(Path(tempfile.gettempdir()) / "pruning-spaces-latency.lock", mode=0o666)
    with lock, torch.inference_mode():
        return interleaved(contestants)
