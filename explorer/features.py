"""Features: what is known of every recipe of a space before any is evaluated."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from explorer.data import Batch, head, size_of
from explorer.evaluation import Evaluator
from explorer.running import device_of
from spaces import Axis, PruningSpace

__all__ = ["Features", "features_of"]

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

# inputs that a choice's change is measured on, and how many evaluations all of that may cost
_INPUTS, _EVALUATIONS = 32, 4
# squared changes grow like this power of the share removed, where nothing was measured to tell
_POWER = 2.0
# changes that make no difference any more; the logarithm needs some
_LEAST = 1e-4


@dataclass(frozen=True)
class Features:
    """The logarithm of how much a recipe's choices, each on its own, change the network's predictions.

    Calling it with (n, axes) rows returns (n, 1) float64.

    Attributes
    ----------
    changes
        For each axis and choice the mean squared change of the predictions relative to their variance, 0 where nothing
        is removed.
    inputs
        How many inputs went through a network to measure them.
    """

    changes: tuple[Floats, ...]
    inputs: int

    def __call__(self, rows: npt.NDArray[np.int16]) -> Floats:
        total = np.full(len(rows), _LEAST)
        for place, table in enumerate(self.changes):
            total += table[rows[:, place]]
        return np.log(total)[:, None]


def features_of(evaluator: Evaluator, space: PruningSpace, batches: Sequence[Batch]) -> Features:
    """Return the features of a space's recipes.

    One choice at a time is made on the dense network, and the predictions for a few training inputs compared with the
    dense network's; batch norms take these inputs' statistics. It needs no labels and no gradients. Where measuring
    every choice would cost more than four evaluations, every kind of choice of an axis is measured at some ratios, and
    the others are interpolated.

    Parameters
    ----------
    evaluator
        Makes the sub-networks.
    space
        The recipes.
    batches
        Training batches on the evaluator's device; the first inputs of the first are used.
    """
    inputs = head(batches[0][0], min(_INPUTS, size_of(batches[0][1])))
    count = min(_INPUTS, size_of(batches[0][1]))
    one = sum(size_of(targets) for _, targets in [*evaluator.calibration, *evaluator.validation])
    families = [(place, members) for place, axis in enumerate(space.axes) for members in _pruning(axis)]
    each = max(1, _EVALUATIONS * one // count // max(1, len(families)))
    dense = np.zeros(len(space.axes), dtype=np.int16)
    changes = [np.zeros(len(axis.choices)) for axis in space.axes]
    device = device_of(evaluator.model)
    measured = 0
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        before = _predictions(evaluator, space, dense, inputs)
        for place, members in families:
            known = {}
            for choice in _anchors(members, each):
                row = dense.copy()
                row[place] = choice
                known[choice] = _change(before, _predictions(evaluator, space, row, inputs))
                measured += 1
            axis = space.axes[place]
            found = _interpolated({c: 1 - axis.ratios[c] for c in members}, known)
            for choice, change in found.items():
                changes[place][choice] = change
    return Features(tuple(changes), measured * count)


def _pruning(axis: Axis) -> list[list[int]]:
    """Return the choices of every kind that remove something, what keeps most first."""
    kinds = ([choice for choice in members if axis.ratios[choice] < 1] for members in axis.families.values())
    return [sorted(kind, key=lambda choice: -axis.ratios[choice]) for kind in kinds if kind]


def _anchors(members: Sequence[int], count: int) -> list[int]:
    """Return as many choices, evenly spread; the middle one where it is one."""
    if count == 1:
        return [members[len(members) // 2]]
    places = np.unique(np.linspace(0, len(members) - 1, min(count, len(members))).round().astype(int))
    return [members[place] for place in places]


def _interpolated(removed: Mapping[int, float], known: Mapping[int, float]) -> dict[int, float]:
    """Return the changes of all choices, which never fall as more is removed.

    Between two measured choices the change is a power of the share removed; outside them, the square.
    """
    measured = {choice: change for choice, change in known.items() if math.isfinite(change)}
    if not measured:
        return {choice: share**_POWER for choice, share in removed.items()}
    where = sorted(measured, key=lambda choice: removed[choice])
    shares = np.log([removed[choice] for choice in where])
    levels = np.maximum.accumulate(np.log([max(measured[choice], _LEAST / 100) for choice in where]))
    out = {}
    for choice, share in removed.items():
        at = math.log(share)
        beyond = _POWER * (max(0.0, at - shares[-1]) + min(0.0, at - shares[0]))
        out[choice] = float(np.exp(np.interp(at, shares, levels) + beyond))
    return out


def _predictions(evaluator: Evaluator, space: PruningSpace, row: npt.NDArray, inputs: Any) -> list[Tensor]:
    """Return a sub-network's predictions as it is before any calibration; none where it does not run."""
    module, _ = evaluator._pruned(space.recipe(row))
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    torch.manual_seed(0)
    try:
        with torch.inference_mode():
            out = evaluator.task.forward(module, inputs)
    except Exception as error:
        log.warning("features: %s", (str(error).splitlines() or [""])[0])
        return []
    return [leaf.double().cpu() for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Return the mean squared change of predictions relative to their variance, NaN where it can't be told."""
    if not before or [leaf.shape for leaf in before] != [leaf.shape for leaf in after]:
        return math.nan
    parts = [float((b - a).square().mean() / b.var().clamp_min(1e-12)) for b, a in zip(before, after, strict=True)]
    return float(np.mean(parts))
