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
from explorer.evaluation.evaluator import Inherited
from explorer.utils.console import Told, steps
from explorer.utils.modules import device_of
from spaces import Axis, PruningSpace, first_line

__all__ = ["Features", "features_of"]

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]

# inputs that a choice's change is measured on; how many evaluations all of that may cost, and what a choice costs: that
# of so many inputs, since its sub-network is built too
_INPUTS, _EVALUATIONS, _COST = 16, 4, 64
# inputs of a choice and kinds of choices that are always tried; batch norms have no statistics of one input
_LEAST_INPUTS, _LEAST_KINDS = 2, 64
# squared changes grow like this power of the share removed, where nothing was measured to tell
_POWER = 2.0
# changes that make no difference any more; the logarithm needs some
_LEAST = 1e-4
# variance of a measured change's logarithm
_NOISE = 0.05


@dataclass(frozen=True)
class Features:
    """The logarithm of how much a recipe's choices, each on its own, change the network's predictions.

    Calling it with (n, axes) rows returns (n, 1) float64.

    Attributes
    ----------
    changes
        For each axis and choice the mean squared change of the predictions relative to their variance, 0 where nothing
        is removed.
    measured
        For each axis and choice whether its change was measured: that of others was interpolated.
    inputs
        How many inputs went through a network to measure them.
    """

    changes: tuple[Floats, ...]
    measured: tuple[npt.NDArray[np.bool_], ...]
    inputs: int

    def __call__(self, rows: npt.NDArray[np.int16]) -> Floats:
        total = np.full(len(rows), _LEAST)
        for place, table in enumerate(self.changes):
            total += table[rows[:, place]]
        return np.log(total)[:, None]


def features_of(inherited: Inherited, space: PruningSpace, batches: Sequence[Batch]) -> Features:
    """Return the features of a space's recipes.

    One choice at a time is made on the dense network, and the predictions for a few training inputs compared with the
    dense network's; batch norms take these inputs' statistics. It needs no labels and no gradients. Where measuring
    every choice would cost more than four evaluations, every kind of choice of an axis is measured at some ratios, and
    the others are interpolated; where that is too much still, on fewer inputs, and then for some of the axes only.

    Parameters
    ----------
    inherited
        Makes the sub-networks.
    space
        The recipes.
    batches
        Training batches on the evaluator's device; the first inputs of the first are used.
    """
    steps.info("trying each choice alone, by which recipes are told apart before they are evaluated")
    families = [(place, kind, members) for place, axis in enumerate(space.axes) for kind, members in _pruning(axis)]
    one = sum(size_of(targets) for _, targets in _read(inherited))
    paid = _EVALUATIONS * one * _INPUTS // _COST
    share = paid // max(1, len(families))
    each = max(1, share // _INPUTS)
    count = min(size_of(batches[0][1]), max(_LEAST_INPUTS, min(_INPUTS, share)))
    tried: Sequence[int] = range(len(families))
    if len(families) > (most := max(_LEAST_KINDS, paid // count)):
        tried = sorted(np.random.default_rng(0).permutation(len(families))[:most].tolist())
    inputs = head(batches[0][0], count)
    dense = np.zeros(len(space.axes), dtype=np.int16)
    device = device_of(inherited.meter.model)
    choices = [_Choice(place, kind, c, 1 - space.axes[place].ratios[c]) for place, kind, cs in families for c in cs]
    known: dict[_Choice, float] = {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        before = _predictions(inherited, space, dense, inputs)
        for number in Told("trying choices", tried):
            place, kind, members = families[number]
            for choice in _anchors(members, each, number):
                row = dense.copy()
                row[place] = choice
                change = _change(before, _predictions(inherited, space, row, inputs))
                known[_Choice(place, kind, choice, 1 - space.axes[place].ratios[choice])] = change
    changes = [np.zeros(len(axis.choices)) for axis in space.axes]
    # what removes nothing changes nothing
    measured = [np.array(axis.ratios) == 1 for axis in space.axes]
    for one_of in known:
        measured[one_of.axis][one_of.number] = True
    for one_of, change in _interpolated(choices, known).items():
        changes[one_of.axis][one_of.number] = change
    for place, _, members in families:
        changes[place][members] = np.maximum.accumulate(changes[place][members])
    log.info(
        "features: %d of %d choices tried on %d training inputs each, %.2g evaluations' worth of inputs",
        len(known), len(choices), count, len(known) * count / one,
    )  # fmt: skip
    return Features(tuple(changes), tuple(measured), len(known) * count)


def _read(inherited: Inherited) -> list[Batch]:
    """Return the batches that an evaluation reads: those of calibration where something is calibrated."""
    normed = any(isinstance(module, _BatchNorm) for module in inherited.meter.model.modules())
    calibrated = normed or inherited.reconstruction is not None
    return [*(inherited.calibration if calibrated else ()), *inherited.meter.validation]


@dataclass(frozen=True)
class _Choice:
    """A choice of an axis by its number, its kind, and the share that it removes."""

    axis: int
    kind: str
    number: int
    removed: float


def _pruning(axis: Axis) -> list[tuple[str, list[int]]]:
    """Return the choices of every kind that remove something, what keeps most first."""
    kinds = {kind: [c for c in members if axis.ratios[c] < 1] for kind, members in axis.families.items()}
    return [(kind, sorted(found, key=lambda c: -axis.ratios[c])) for kind, found in kinds.items() if found]


def _anchors(members: Sequence[int], count: int, turn: int) -> list[int]:
    """Return as many choices, evenly spread; of one in each of many families not the same in all."""
    if count >= len(members):
        return list(members)
    start = turn % len(members)
    return sorted({members[(start + step * len(members) // count) % len(members)] for step in range(count)})


def _interpolated(choices: Sequence[_Choice], known: Mapping[_Choice, float]) -> dict[_Choice, float]:
    """Return the changes of all choices, those known as they are.

    The logarithm of a change is a Gaussian process: a square of the share removed on average, with an axis's own level,
    a kind's own level and power, and a smooth deviation for every kind of every axis.
    """
    seen = [choice for choice, change in known.items() if math.isfinite(change)]
    found = {choice: known[choice] for choice in seen}
    rest = [choice for choice in choices if choice not in found]
    if not seen:
        return {choice: choice.removed**_POWER for choice in choices}
    if rest:
        levels = np.log([max(known[choice], _LEAST / 100) for choice in seen]) - _prior(seen)
        level = levels.mean()
        weights = np.linalg.solve(_covariance(seen, seen) + _NOISE * np.eye(len(seen)), levels - level)
        logarithms = _prior(rest) + level + _covariance(rest, seen) @ weights
        found |= dict(zip(rest, np.exp(logarithms).tolist(), strict=True))
    return found


def _prior(choices: Sequence[_Choice]) -> Floats:
    return _POWER * np.log([choice.removed for choice in choices])


def _covariance(one: Sequence[_Choice], other: Sequence[_Choice]) -> Floats:
    axis, kind = (
        np.equal.outer(*(np.array([getattr(choice, name) for choice in part]) for part in (one, other))).astype(float)
        for name in ("axis", "kind")
    )
    at, there = (np.log([choice.removed for choice in part]) - math.log(0.5) for part in (one, other))
    near = np.exp(-(np.subtract.outer(at, there) ** 2) / 2)
    return 2.0 * axis + kind * (1.0 + np.outer(at, there)) + 0.3 * axis * kind * near


def _predictions(inherited: Inherited, space: PruningSpace, row: npt.NDArray, inputs: Any) -> list[Tensor]:
    """Return a sub-network's predictions as it is before any calibration; none where it does not run."""
    module, _ = inherited.pruned(space.recipe(row))
    for part in module.modules():
        if isinstance(part, _BatchNorm):
            part.train()
    torch.manual_seed(0)
    try:
        with torch.inference_mode():
            out = inherited.meter.task.forward(module, inputs)
    except Exception as error:
        log.warning("features: %s", first_line(error))
        return []
    return [leaf.double().cpu() for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _change(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Return the mean squared change of predictions relative to their variance, NaN where it can't be told."""
    if not before or [leaf.shape for leaf in before] != [leaf.shape for leaf in after]:
        return math.nan
    parts = [float((b - a).square().mean() / b.var().clamp_min(1e-12)) for b, a in zip(before, after, strict=True)]
    return float(np.mean(parts))
