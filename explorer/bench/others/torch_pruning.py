"""Torch-Pruning's pruners, as its own reproduction runs them: in small steps, until the FLOPs are reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from explorer.bench.others.costs import multiply_adds, plain
from explorer.problem import Problem
from explorer.pruning.surgery.skeleton import copied
from explorer.search.plan import Plan
from spaces import PruningError

__all__ = ["CRITERIA", "torch_pruning"]

CRITERIA: Mapping[str, tuple[str, dict[str, Any]]] = {
    "l1": ("MagnitudeImportance", {"p": 1}),
    "l2": ("MagnitudeImportance", {"p": 2}),
    "bn": ("BNScaleImportance", {}),
    "lamp": ("LAMPImportance", {"p": 2}),
    "fpgm": ("FPGMImportance", {"p": 2}),
    "taylor": ("TaylorImportance", {}),
    "hessian": ("HessianImportance", {}),
}
"""Its importances and their settings: those of its reproduction and of its benchmark of criteria."""

# from the whole network to none, as in its reproduction on CIFAR
_STEPS = 400
# inputs whose gradients are squared one by one
_INPUTS = 256


def torch_pruning(criterion: str, *, everywhere: bool) -> Callable[..., tuple[dict[float, nn.Module], int]]:
    """Return the method that prunes by one of `CRITERIA`.

    It prunes the units of the problem's space: what it removes elsewhere, where shortcuts pad channels, does not run.
    Gradients are those of the dense network on the calibration batches, and are sliced with the weights.

    Parameters
    ----------
    criterion
        Which.
    everywhere
        Whether channels of all layers are ranked together, its ``global_pruning``.
    """

    def make(problem: Problem, plan: Plan, shares: Sequence[float]) -> tuple[dict[float, nn.Module], int]:
        import torch_pruning as tp

        model = plain(problem.meter.model).requires_grad_(True)
        example = problem.meter.validation[0][0][:1]
        if criterion == "taylor":
            _gradients(problem, model)
        elif criterion == "hessian":
            _squares(problem, model)
        name, settings = CRITERIA[criterion]
        pruner = (tp.pruner.BNScalePruner if criterion == "bn" else tp.pruner.BasePruner)(
            model,
            example,
            importance=getattr(tp.importance, name)(**settings),
            global_pruning=everywhere,
            pruning_ratio=1.0,
            iterative_steps=_STEPS,
            ignored_layers=_ignored(problem, model),
        )
        made: dict[float, nn.Module] = {}
        for share in sorted(shares, reverse=True):
            while (flops := multiply_adds(model, example)) > share * problem.dense["flops"]:
                if pruner.current_step == _STEPS:
                    least = flops / problem.dense["flops"]
                    raise PruningError(
                        f"torch_pruning: its last step leaves {least:.3g} of the FLOPs, asked is {share:g}"
                    )
                pruner.step()
            made[share] = copied(model)
            made[share].zero_grad(set_to_none=True)
        return made, 0

    return make


def _ignored(problem: Problem, model: nn.Module) -> list[nn.Module]:
    """Return the layers that write no unit of the space."""
    units = {unit.name: unit for unit in problem.space.network.units}
    pruned = {name for axis in problem.space.axes if axis.name in units for name in units[axis.name].writers}
    return [
        part for name, part in model.named_modules() if name not in pruned and isinstance(part, nn.Conv2d | nn.Linear)
    ]


def _gradients(problem: Problem, model: nn.Module) -> None:
    """Leave the gradients of the loss in the model."""
    task = problem.meter.task
    for inputs, targets in problem.inherited.calibration:
        task.loss(task.forward(model, inputs), targets).backward()


def _squares(problem: Problem, model: nn.Module) -> None:
    """Leave the mean squares of single inputs' gradients in the model.

    That is what its importance fills in where gradients were given to its ``accumulate_grad``, which in 1.6.1 keeps
    those of the last input alone.
    """
    task = problem.meter.task
    parameters = list(model.parameters())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    seen = 0
    for inputs, targets in problem.inherited.calibration:
        for place in range(min(len(targets), _INPUTS - seen)):
            loss = task.loss(task.forward(model, inputs[place : place + 1]), targets[place : place + 1])
            for total, gradient in zip(sums, torch.autograd.grad(loss, parameters), strict=True):
                total += gradient**2
            seen += 1
    for parameter, total in zip(parameters, sums, strict=True):
        parameter.grad = total / seen
