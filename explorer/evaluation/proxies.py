"""Proxies: cheap scores of sub-networks, which may or may not rank them as training would."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from explorer.data import Batch, head
from explorer.data.task import Task
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.features import features_of
from explorer.evaluation.training import reestimate_bn
from explorer.pruning.surgery.skeleton import copied
from explorer.search.jobs import Job
from spaces import PruningError, PruningSpace, Recipe

__all__ = ["PROXIES", "proxies_table"]

PROXIES: Mapping[str, str] = {
    "vanilla_error": "error of the sliced weights as they are",
    "vanilla_loss": "loss of the sliced weights as they are",
    "bn_error": "error with re-estimated batch norm",
    "bn_loss": "loss with re-estimated batch norm",
    "importance": "share of the scores kept, mean over the units",
    "change": "log of the summed change of predictions",
    "synflow": "log of the sum of |weight * d R / d weight|, R of absolute weights on ones",
    "snip": "log of the sum of |weight * d loss / d weight|",
}
"""The columns of `proxies_table` and what they are."""


def proxies_table(
    inherited: Inherited,
    space: PruningSpace,
    rows: Sequence[npt.NDArray[np.int16]],
    *,
    others: Mapping[str, Callable[[Job], Mapping[str, float]]] | None = None,
    on_row: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Return the proxies of recipes, one row a recipe in order, see `PROXIES`.

    A score that a sub-network does not have (a loss that is not finite, a model that takes no images of ones) is NaN.

    Parameters
    ----------
    inherited
        Builds and measures sub-networks without training.
    space, rows
        The recipes.
    others
        Further evaluators by name, such as one that reconstructs: their error and loss are ``NAME_error`` and
        ``NAME_loss``.
    on_row
        Called with the number of recipes that are done.
    """
    changes = features_of(inherited, space, inherited.calibration)(np.array(rows))[:, 0]
    task, table = inherited.meter.task, []
    for number, row in enumerate(rows):
        recipe = space.recipe(row)
        module, _ = inherited.pruned(recipe)
        found = {"importance": _importance(inherited, recipe), "change": float(changes[number])}
        # before batch norm is touched: both are of the weights as they are
        found |= {"synflow": _synflow(module, task, inherited.calibration[0])}
        found |= {"snip": _snip(module, task, inherited.calibration[0])}
        found |= _named("vanilla", partial(inherited.meter.measured, module))
        reestimate_bn(module, inherited.calibration)
        found |= _named("bn", partial(inherited.meter.measured, module))
        for name, evaluate in (others or {}).items():
            found |= _named(name, partial(evaluate, Job(number, recipe, limited=False)))
        table.append(found)
        if on_row is not None:
            on_row(number + 1)
    names = list(dict.fromkeys([*PROXIES, *(key for found in table for key in found)]))
    return pd.DataFrame(table, columns=names)


def _named(name: str, measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    try:
        metrics = measure()
    except PruningError:
        # outputs are not finite
        metrics = {"error": math.nan, "loss": math.nan}
    return {f"{name}_{key}": float(metrics[key]) for key in ("error", "loss")}


def _importance(inherited: Inherited, recipe: Recipe) -> float:
    """Return the share of the units' scores that a recipe keeps, its mean over all units; dropped blocks keep none."""
    scores, kept = inherited.pruner.scores.channels, inherited.pruner.kept(recipe)
    enclosing = inherited.pruner.network.enclosing
    shares = []
    for name, values in scores.items():
        total = float(values.sum())
        dropped = any(block in recipe.blocks for block in enclosing[name])
        part = float(values[kept[name].cpu()].sum()) if name in kept else total
        shares.append(0.0 if dropped else part / total if total > 0 else 1.0)
    return float(np.mean(shares)) if shares else 1.0


def _synflow(module: nn.Module, task: Task, batch: Batch) -> float:
    """Return log of the synaptic flow (Tanaka et al. 2020): no data, absolute weights, an input of ones."""
    positive = copied(module).double().eval()
    with torch.no_grad():
        for parameter in positive.parameters():
            parameter.abs_()
    inputs = head(batch[0], 1)
    if not all(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in tree_leaves(inputs)):
        return math.nan
    ones: Any = tree_map(lambda leaf: torch.ones_like(leaf, dtype=torch.float64), inputs)
    return _saliency(positive, lambda: _total(task.forward(positive, ones)))


def _snip(module: nn.Module, task: Task, batch: Batch) -> float:
    """Return log of the connection sensitivity (SNIP, Lee et al. 2019) on one training batch."""
    trained = copied(module).eval()
    return _saliency(trained, lambda: task.loss(task.forward(trained, batch[0]), batch[1]))


def _saliency(module: nn.Module, value: Callable[[], Tensor]) -> float:
    """Return log of the summed |parameter * gradient| of a value, NaN where it has none."""
    parameters = [parameter.requires_grad_() for parameter in module.parameters()]
    with torch.enable_grad():
        try:
            gradients = torch.autograd.grad(value(), parameters, allow_unused=True)
        except RuntimeError:
            return math.nan
    total = sum(
        float((parameter.detach() * gradient).abs().double().sum())
        for parameter, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    )
    return math.log(total) if 0 < total < math.inf else math.nan


def _total(outputs: Any) -> Tensor:
    leaves = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
    return torch.stack([leaf.sum() for leaf in leaves]).sum()
