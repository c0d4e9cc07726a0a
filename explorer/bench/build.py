"""From a recipe to a module: ResNet-50, against Torch-Pruning and against index_select alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.bench.cases import Case
from explorer.bench.measured import Measured
from explorer.bench.resnet50 import ResNet50, resnet50
from explorer.pruning.surgery import Kept
from explorer.utils.console import console
from explorer.utils.timing import interleaved
from spaces import Recipe

__all__ = ["build"]

# over Torch-Pruning, by the ratio kept of every unit
_TARGETS = {0.5: 12.0, 0.75: 7.0}


def build(config: dict[str, Any]) -> list[Measured]:
    """Return how much faster a uniform recipe is built than by Torch-Pruning, and how much slower than slicing alone.

    Torch-Pruning's way is a copy of the model, a pruner (which traces the copy and scores its channels) and its
    step; ours is the recipe's channels by scores made before, and slicing. Slicing alone are the same
    index_selects, on indices made before, and clones of the tensors that stay whole.
    """
    torch.manual_seed(config["seed"])
    size = config["build"]["image"]
    model = resnet50()
    case = Case(model, torch.zeros(1, 3, size, size), "resnet50")
    figures = []
    for ratio in config["build"]["ratios"]:
        recipe = Recipe.of({unit.name: ratio for unit in case.network.units})
        contestants: list[Callable[[], object]] = [
            partial(case.build, recipe),
            _bare(case, case.pruner.kept(recipe)),
            *_torch_pruning(model, case.example, ratio),
        ]
        ours, bare, *rest = interleaved(contestants, runs=config["repeats"], seconds=config["seconds"])
        what = f"resnet50 at {size}, uniform {ratio:g}"
        for theirs in rest:
            value = theirs.median / ours.median
            target = _TARGETS.get(ratio)
            figures.append(
                Measured(f"{what}: times faster", "Torch-Pruning", value, at_least=target, ours=ours, theirs=theirs)
            )
        value = ours.median / bare.median
        figures.append(Measured(f"{what}: time", "index_select alone", value, at_most=1.5, ours=ours, theirs=bare))
    if len(figures) == len(config["build"]["ratios"]):
        line = "Torch-Pruning is not installed, its rows are left out: pip install 'pruning-spaces[bench]'"
        console.print(line, markup=False, soft_wrap=True)
    return figures


def _bare(case: Case, kept: Kept) -> Callable[[], list[Tensor]]:
    """Return a function that makes the tensors of the sub-network and nothing else."""
    tensors = {**dict(case.model.named_parameters()), **dict(case.model.named_buffers())}
    atoms = case.pruner.surgeon.atoms
    alive = atoms.alive(kept)
    work: list[tuple[Tensor, list[tuple[int, Tensor]]]] = []
    for tensor in case.network.tensors:
        dense = tensors[tensor.name].detach()
        moved = [(axis, dim) for axis, dim in enumerate(tensor.dims) if dim.units & kept.keys()]
        slices = [(axis, alive[atoms.labels(dim)].nonzero().squeeze(1)) for axis, dim in moved]
        slices.sort(key=lambda entry: len(entry[1]) / dense.size(entry[0]))
        work.append((dense, slices))

    def select() -> list[Tensor]:
        made = []
        for dense, slices in work:
            small = dense
            for axis, index in slices:
                small = small.index_select(axis, index)
            made.append(small if slices else dense.clone())
        return made

    return select


def _torch_pruning(model: ResNet50, example: Tensor, ratio: float) -> list[Callable[[], nn.Module]]:
    """Return Torch-Pruning's way to a sub-network, or nothing where it is not installed."""
    try:
        import torch_pruning
    except ImportError:
        return []

    def prune() -> nn.Module:
        small = copy.deepcopy(model)
        importance = torch_pruning.importance.MagnitudeImportance(p=1)
        options = {"pruning_ratio": 1 - ratio, "ignored_layers": [small.fc]}
        torch_pruning.pruner.MagnitudePruner(small, example, importance, **options).step()
        return small

    return [prune]
