"""Methods: what prunes a network to given shares of its FLOPs, ours, other tools' and a user's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata

import torch
from torch import nn
from torch.nn.utils import prune

from explorer.bench.others.costs import flops_of, plain
from explorer.bench.others.fastnas import fastnas
from explorer.bench.others.torch_pruning import CRITERIA, torch_pruning
from explorer.problem import Problem
from explorer.search.plan import Plan
from explorer.search.storage import open_study
from explorer.utils.instantiate import called, locate
from spaces import PruningError, Recipe, costs_of, unknown

__all__ = ["METHODS", "RECONSTRUCT", "TOLERANCE", "Entry", "Method"]

TOLERANCE = 0.005
"""What a sub-network's share of the FLOPs may exceed the share asked for by."""
RECONSTRUCT = "+reconstruct"
"""After a method's name: the sub-networks of its recipes are reconstructed, not only re-estimated."""

# halvings of what a mask removes
_HALVINGS = 14

SubNetwork = Recipe | nn.Module
"""A sub-network, by its recipe or as it is."""
Make = Callable[[Problem, Plan, Sequence[float]], tuple[Mapping[float, SubNetwork], int]]
"""From a problem, how it would be searched and shares of its FLOPs to sub-networks, and how many were evaluated."""


@dataclass(frozen=True)
class Method:
    """How sub-networks are made.

    Parameters
    ----------
    make
        Makes them.
    recipes
        Whether it gives recipes, which are made in every space and may be reconstructed.
    package, install
        What it needs, and how that is installed.
    """

    make: Make
    recipes: bool = False
    package: str | None = None
    install: str = ""

    @property
    def missing(self) -> bool:
        """Whether the package that it needs is not installed."""
        return self.package is not None and importlib.util.find_spec(self.package) is None

    @property
    def tool(self) -> str:
        """The tool and its version; empty for what is part of this project or of torch."""
        if self.package is None:
            return ""
        # a package may be of several distributions, and of none where it is only a folder on the path
        names = sorted(set(metadata.packages_distributions().get(self.package, [])))
        return ", ".join(f"{name} {metadata.version(name)}" for name in names) or self.package


def _allocated(allocation: str) -> Make:
    """Return the method that lets an allocation choose every unit's ratio."""

    def make(problem: Problem, plan: Plan, shares: Sequence[float]) -> tuple[dict[float, SubNetwork], int]:
        return {share: problem.allocate(allocation, {"flops": share}).recipe for share in shares}, 0

    return make


def _searched(problem: Problem, plan: Plan, shares: Sequence[float]) -> tuple[dict[float, SubNetwork], int]:
    """Return the best by validation within every share, of one search."""
    search = problem.search(open_study(None, "others", plan.objectives), plan)
    search.run(plan.trials)
    network, dense = problem.space.network, problem.space.dense["flops"]
    found = [
        (record.metrics["error"], recipe, costs_of(network, recipe)["flops"] / dense)
        for record in search.records
        if "error" in record.metrics
        for recipe in [problem.space.recipe(record.row)]
    ]
    made: dict[float, SubNetwork] = {}
    for share in shares:
        inside = [(error, recipe) for error, recipe, flops in found if flops <= share + TOLERANCE]
        if not inside:
            raise PruningError(f"others.trials: {plan.trials}, none of them is within {share:g} of the FLOPs")
        made[share] = min(inside, key=lambda pair: pair[0])[1]
    return made, len(search.records)


def _masked(problem: Problem, plan: Plan, shares: Sequence[float]) -> tuple[dict[float, SubNetwork], int]:
    """Return networks whose least weights are masked by torch, of all layers but the first and the last together."""
    example = problem.meter.validation[0][0][:1]
    made: dict[float, SubNetwork] = {}
    for share in shares:
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            module = _least_masked(problem.meter.model, middle)
            low, high = (low, middle) if flops_of(module, example) <= share * problem.dense["flops"] else (middle, high)
        made[share] = _least_masked(problem.meter.model, high)
    return made, 0


def _least_masked(model: nn.Module, amount: float) -> nn.Module:
    module = plain(model)
    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    weights = [(layer, "weight") for layer in layers[1:-1]]
    prune.global_unstructured(weights, pruning_method=prune.L1Unstructured, amount=amount)
    for layer, name in weights:
        prune.remove(layer, name)
    return module


METHODS: Mapping[str, Method] = {
    **{name: Method(_allocated(name), recipes=True) for name in ("uniform", "global", "lamp", "erk", "knapsack")},
    "frontier": Method(_searched, recipes=True),
    **{
        f"torch_pruning_{criterion}{'_global' if everywhere else ''}": Method(
            torch_pruning(criterion, everywhere=everywhere),
            package="torch_pruning",
            install="pip install 'pruning-spaces[bench]'",
        )
        for criterion in CRITERIA
        for everywhere in (False, True)
    },
    "fastnas": Method(
        fastnas,
        package="modelopt",
        install="pip install --no-deps nvidia-modelopt && "
        "pip install pulp pydantic regex requests nvidia-ml-py torchprofile==0.0.4",
    ),
    "torch_masks": Method(_masked),
}
"""What can be asked for by name."""


@dataclass(frozen=True)
class Entry:
    """A contestant: a method, and what becomes of the weights of its recipes."""

    name: str
    method: Method
    reconstruct: bool

    @classmethod
    def of(cls, name: str) -> Entry:
        """Return the contestant of a name, or of the import path of a function.

        Parameters
        ----------
        name
            A key of `METHODS`; or the path of a function ``(problem, flops)`` that returns a recipe, or a module, with
            at most that share of the dense network's FLOPs. Then perhaps `RECONSTRUCT`.

        Raises
        ------
        PruningError
            If there is none such, or it makes no recipes that could be reconstructed.
        """
        plain = str(name).removesuffix(RECONSTRUCT)
        reconstruct = plain != name
        if plain in METHODS:
            method = METHODS[plain]
            if reconstruct and not method.recipes:
                raise PruningError(f"others.methods: {name!r}, but {plain} makes modules, allowed is {plain}")
        elif "." in plain:
            method = Method(_given(plain, reconstruct=reconstruct))
        else:
            raise unknown("others.methods", plain, METHODS)
        return cls(str(name), method, reconstruct)


def _given(path: str, *, reconstruct: bool) -> Make:
    """Return the method that a user's function is; what is to be reconstructed must be a recipe."""
    function = locate("others.methods", path)
    names = ("problem", "flops")

    def make(problem: Problem, plan: Plan, shares: Sequence[float]) -> tuple[dict[float, SubNetwork], int]:
        made: dict[float, SubNetwork] = {}
        for share in shares:
            torch.manual_seed(plan.seed)
            made[share] = called(path, function, dict(zip(names, (problem, share), strict=True)))
            if not isinstance(made[share], Recipe | nn.Module):
                kind = type(made[share]).__name__
                raise PruningError(f"{path}: it returns a {kind}, allowed is a Recipe or a torch.nn.Module")
            if reconstruct and not isinstance(made[share], Recipe):
                raise PruningError(f"others.methods: {path + RECONSTRUCT!r}, but it returns modules, allowed is {path}")
        return made, 0

    return make
