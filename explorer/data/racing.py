"""Racing: when an evaluation has seen enough of the validation data to be sure that it cannot reach the frontier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import t
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from explorer.data import Batch, size_of

__all__ = ["Race", "dealt"]

# chance that one look at a recipe whose error is the bar ends its evaluation; all looks together end up to 4.9 % of
# those evaluations, and .9 % of those of recipes that are a point better
_RISK = 0.01


@dataclass(frozen=True)
class Race:
    """The error to come below, and how many inputs there are in all.

    An evaluation is a growing sample without replacement; it is lost once the error that all inputs would give is
    above the bar by more than chance explains (Maron and Moore 1994, with Student's interval in place of Hoeffding's
    and the correction for a finite population). The looks are few, since each takes its own risk of a mistake, and
    reads a number back from a GPU.

    Attributes
    ----------
    bar
        The error that is of use only below it.
    inputs
        How many there are in all.
    """

    bar: float
    inputs: int

    def looks(self, batches: int) -> bool:
        """Tell whether the interval is looked at after so many batches: 2, 3, 4, 6, 8, 12, 16 ..."""
        power = 1 << (batches.bit_length() - 1)
        return batches > 1 and (batches == power or 2 * batches == 3 * power)

    def lost(self, error: float, error_se: float, sample: int, seen: int) -> bool:
        """Tell whether the error over all inputs will be above the bar.

        Parameters
        ----------
        error, error_se
            So far, with its standard error. NaN never loses, nor does 0 before all inputs were seen: few equal values
            of a metric that takes few values say nothing of the others.
        sample
            How many values the standard error is of, at least 2.
        seen
            How many inputs these are.
        """
        left = max(0.0, (self.inputs - seen) / max(1, self.inputs - 1))
        if left and not error_se:
            return False
        margin = float(t.isf(_RISK, sample - 1)) * error_se * math.sqrt(left)
        return error - margin > self.bar


def dealt(batches: Sequence[Batch], seed: int = 0) -> list[Batch] | None:
    """Return the same inputs in batches of the same sizes, in random order; None where they can't be mixed.

    A loader may give one class after the other: its first batches are no sample of all. Inputs are mixed where every
    batch is made of tensors that differ in their first dimension only.
    """
    flat = [tree_flatten(batch) for batch in batches]
    leaves, structure = flat[0]
    for other, shape in flat:
        if shape != structure or not all(map(_alike, leaves, other)):
            return None
    sizes = [size_of(targets) for _, targets in batches]
    order = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed))
    columns = [torch.cat([other[i] for other, _ in flat]) for i in range(len(leaves))]
    parts = order.split(sizes)
    return [tree_unflatten([column[part.to(column.device)] for column in columns], structure) for part in parts]


def _alike(one: Any, other: Any) -> bool:
    tensors = isinstance(one, Tensor) and isinstance(other, Tensor)
    return tensors and one.dim() > 0 and one.dim() == other.dim() and one.shape[1:] == other.shape[1:]
