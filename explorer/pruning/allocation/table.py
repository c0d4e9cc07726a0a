"""Allocations: how one level of pruning is spread over all axes, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from explorer.pruning.allocation.axes import FreeAxis
from explorer.pruning.allocation.choices import CHOOSERS
from spaces import unknown

__all__ = ["ALLOCATIONS", "Allocation", "check_allocation"]

Floats = npt.NDArray[np.float64]
Levels = Callable[[Floats], Floats]
Allocation = Callable[[Sequence[FreeAxis]], Levels]
"""From axes to a function from n levels in [0, 1] to (n, axes) ratios, which rise with the level; at 1 all are 1."""


def uniform(axes: Sequence[FreeAxis]) -> Levels:
    """Return the allocation of one ratio everywhere: the level."""
    return lambda levels: np.repeat(np.asarray(levels)[:, None], len(axes), 1)


def global_threshold(axes: Sequence[FreeAxis]) -> Levels:
    """Return the allocation that keeps what scores above one threshold, wherever it is.

    The level is the share kept of all steps of channels, weights or kernels. Scores are in units of their unit's or
    layer's mean: one threshold over raw scores empties whole layers (REFERENCES.md, "Traps"). What a granularity keeps
    at least, such as one channel, stays all the same. Vectors, blocks and tiles have the share of a layer's weights
    that is above the threshold.
    """
    return _pooled([axis.scores for axis in axes])


def lamp(axes: Sequence[FreeAxis]) -> Levels:
    """Return the allocation by layer-adaptive magnitude scores (Lee et al. 2021, arXiv 2010.07611).

    A score is squared and divided by the sum of its own and all greater squares of its layer or unit; one threshold
    then decides as in `global_threshold`. The best of every layer scores 1, and so is never removed. Weights scored by
    magnitude are Lee et al.'s; channels are taken by their scores likewise.
    """
    pooled = []
    for axis in axes:
        squares = axis.scores if axis.quadratic else axis.scores**2
        pooled.append(squares / np.maximum(np.cumsum(squares), 1e-300))
    return _pooled(pooled)


def erk(axes: Sequence[FreeAxis]) -> Levels:
    """Return the Erdos-Renyi-Kernel allocation (Mocanu et al. 2018, Evci et al. 2020, arXiv 1911.11134).

    The ratio of a weight is proportional to the sum of its dimensions' lengths over their product, no more than 1, and
    what exceeds 1 goes to the others: the level is the share kept of all weights. A channel unit has the ratio that
    the weights which write it would have together.
    """
    entries = np.array([axis.entries for axis in axes], dtype=np.float64)
    density = np.array([axis.spread for axis in axes]) / entries
    # axes reach 1 in the order of their densities; between two such points what is kept is linear in the factor
    corners = np.append(0, np.sort(1 / density))
    kept = np.minimum(1, corners[:, None] * density) @ entries / max(1.0, entries.sum())

    def ratios(levels: Floats) -> Floats:
        factors = np.interp(levels, kept, corners)
        return np.minimum(1, factors[:, None] * density)

    return ratios


ALLOCATIONS: Mapping[str, Allocation] = {"uniform": uniform, "global": global_threshold, "lamp": lamp, "erk": erk}
"""Allocations of a level over free widths, by name."""


def check_allocation(name: object, key: str = "allocation") -> None:
    """Check that one of `ALLOCATIONS` or `CHOOSERS` is named.

    Raises
    ------
    PruningError
        If there is none of that name.
    """
    names = [*ALLOCATIONS, *CHOOSERS]
    if name not in names:
        raise unknown(key, name, names)


def _pooled(scores: Sequence[Floats]) -> Levels:
    """Return the allocation that takes the best of all scores first, of equal ones those of the first axis."""
    lengths = np.array([len(mine) for mine in scores])
    owners = np.repeat(np.arange(len(scores)), lengths)
    owners = owners[np.argsort(-np.concatenate(scores), kind="stable")]

    def ratios(levels: Floats) -> Floats:
        taken = np.floor(np.asarray(levels) * len(owners) + 0.5).astype(np.int64)
        counts = [np.bincount(owners[:count], minlength=len(scores)) for count in taken]
        return np.stack(counts) / lengths

    return ratios
