"""Study: what an exploration gives back, and `explore`, its Python entrance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from optuna.storages import BaseStorage
from torch import nn

from explorer.data import Batch, draw
from explorer.evaluation import Evaluator
from explorer.metrics import METRICS
from explorer.plots import pareto_figure
from explorer.problem import Problem, named_space
from explorer.search import Record
from explorer.storage import open_study
from explorer.tables import frontier_table, trials_table
from spaces import Budget, PruningError, PruningSpace, Recipe, unknown

__all__ = ["Candidate", "Study", "best_within", "explore"]


@dataclass(frozen=True)
class Candidate:
    """One sub-network of a study: its recipe, its row of the trials table, and how to build it."""

    recipe: Recipe
    metrics: Mapping[str, Any]
    evaluator: Evaluator

    def build(self) -> nn.Module:
        """Return the sub-network as a plain module, batch norm re-estimated, in eval mode."""
        return self.evaluator.build(self.recipe)


@dataclass(frozen=True)
class Study:
    """The outcome of an exploration: its problem and the evaluated recipes."""

    problem: Problem
    records: Sequence[Record]

    @property
    def trials(self) -> pd.DataFrame:
        """One row an evaluated recipe."""
        return trials_table(self.problem.space, self.records)

    @property
    def frontier(self) -> pd.DataFrame:
        """One row a non-dominated sub-network, cheapest first."""
        return frontier_table(self.trials, self.problem.scale)

    @property
    def hypervolume(self) -> float:
        """Hypervolume of the trials: absolute error times cost relative to dense."""
        return self.problem.scale.hypervolume(self.trials)

    def best(self, **budget: Any) -> Candidate:
        """Return the sub-network of least error within a budget on FLOPs, parameters or bytes.

        Raises
        ------
        PruningError
            If no frontier point is within the budget.

        Examples
        --------
        ``study.best(flops=0.5).build()`` is the module; ``study.best(params="100k")`` an absolute limit.
        """
        row = best_within(self.frontier, self.problem.dense, budget)
        return Candidate(
            self.problem.space.recipe(self.records[int(row["trial"])].row), row.to_dict(), self.problem.evaluator
        )

    def plot(self, x: str = "flops") -> Figure:
        """Return the figure of error over the cost `x`, a key of `METRICS`."""
        costs = [key for key, metric in METRICS.items() if metric.cost]
        if x not in costs or x not in self.trials:
            raise unknown("x", x, [cost for cost in costs if cost in self.trials])
        return pareto_figure(self.trials, self.problem.dense, self.problem.scale, x=x)


def best_within(front: pd.DataFrame, dense: Mapping[str, float], budget: Mapping[str, Any]) -> pd.Series:
    """Return the row of least error of a frontier table within a budget.

    Raises
    ------
    PruningError
        If no row is within it; the message tells the cheapest.
    """
    limits = Budget.parse(budget)
    inside = np.ones(len(front), dtype=bool)
    for metric, low, high in limits.bounds:
        low, high = (value * dense[metric] if value <= 1 else value for value in (low, high))
        inside &= (front[metric] >= low - 0.5).to_numpy() & (front[metric] <= high + 0.5).to_numpy()
    if not inside.any():
        metric = limits.bounds[0][0] if limits.bounds else "flops"
        reach = f"the frontier begins at {front[f'{metric}_ratio'].min():.4g} of dense" if len(front) else "it is empty"
        raise PruningError(f"{metric}: no frontier point is within {dict(budget)}, {reach}")
    chosen = front[inside]
    return chosen.loc[chosen["error"].idxmin()]


def explore(
    model: nn.Module | Callable[[], nn.Module],
    train: Iterable[Batch],
    validation: Iterable[Batch],
    *,
    space: str | Mapping[str, Any] | PruningSpace = "filter",
    budget: Mapping[str, Any] | None = None,
    objectives: Sequence[str] = ("error", "flops"),
    trials: int = 64,
    timeout: float | None = None,
    sampler: str = "tpe",
    options: Mapping[str, Any] | None = None,
    criterion: str = "l1",
    calibration_batches: int = 10,
    rungs: int = 8,
    seed: int = 0,
    storage: BaseStorage | None = None,
    on_record: Callable[[list[Record]], None] | None = None,
) -> Study:
    """Explore the sub-networks of a trained model and return the study.

    Parameters
    ----------
    model
        A trained module, or a factory of one; its class is arbitrary. It is not changed.
    train, validation
        Batches ``(inputs, labels)`` as the model takes them, such as a DataLoader: the first of `train` re-estimate
        batch norm, `validation` is read once and kept. Neither may be an iterator.
    space
        The name of one in conf/space, a mapping as in such a file, or a space bound to this model's Network.
    budget
        Limits ``{"flops": 0.5, "params": "200k", "latency_ms": 3}``; no evaluation is spent outside.
    objectives
        Keys of `explorer.metrics.OBJECTIVES`, minimised.
    trials, timeout
        Recipes to evaluate, and minutes after which no further evaluation begins.
    sampler, options
        A key of `explorer.samplers.SAMPLERS`, and its options.
    criterion
        A key of `explorer.importance.CRITERIA`.
    calibration_batches
        Batches of `train` for batch-norm statistics.
    rungs
        Uniform ratios evaluated first.
    seed
        Of the sampler.
    storage
        An Optuna storage to keep the study in and resume it from; in memory by default. It must belong to this
        exploration alone.
    on_record
        Called with all records after each evaluation.

    Raises
    ------
    PruningError
        On any of the caller's mistakes, in one line.
    """
    module = model if isinstance(model, nn.Module) else model()
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    calibration = [(x.to(device), y.to(device)) for x, y in draw(train, calibration_batches, key="train")]
    kept = [(x.to(device), y.to(device)) for x, y in draw(validation, key="validation")]
    problem = Problem.of(
        module,
        named_space(space) if isinstance(space, str) else space,
        calibration,
        kept,
        budget=budget or {},
        objectives=objectives,
        criterion=criterion,
        classes=max(int(y.max()) for _, y in kept) + 1,
    )
    if options is None:
        options = {"multivariate": True} if sampler == "tpe" else {}
    search = problem.search(
        open_study(storage, "exploration", objectives), sampler=sampler, options=options, seed=seed, rungs=rungs
    )
    search.run(trials, timeout=timeout, on_record=on_record)
    return Study(problem, search.records)
