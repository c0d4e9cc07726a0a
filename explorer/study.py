"""Study: what an exploration gives back, and `explore`, its Python entrance."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from optuna.storages import BaseStorage
from torch import nn

from explorer.analysis.plots import pareto_figure
from explorer.analysis.tables import frontier_table, trials_table, without_choices
from explorer.data import Batch, draw, head, moved
from explorer.data.task import Task, classification
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.settings import Settings
from explorer.evaluation.training import identity_of
from explorer.problem import Problem, named_space
from explorer.pruning.criteria import Options, scoring_batches
from explorer.pruning.patterns import Masks
from explorer.pruning.sparse import Executed
from explorer.runs.baselines import evaluated
from explorer.runs.config import named_section, run_section
from explorer.runs.validation import check_evaluator
from explorer.search import rungs
from explorer.search.executors import check_executor, make_executor
from explorer.search.history import Record
from explorer.search.metrics import METRICS
from explorer.search.storage import open_study
from explorer.utils.checks import Ladder, checked_ladder, checked_number
from explorer.utils.fingerprints import fingerprint
from explorer.utils.modules import device_of
from spaces import COSTS, Budget, PruningError, PruningSpace, Recipe, unknown

__all__ = ["Candidate", "Study", "best_within", "explore"]


@dataclass(frozen=True)
class Candidate:
    """One sub-network of a study: its recipe, its row of the trials table, and how to build it."""

    recipe: Recipe
    metrics: Mapping[str, Any]
    evaluator: Inherited | Finetuned
    factory: str | None = None

    def __repr__(self) -> str:
        cost, error = self.metrics["flops_ratio"], self.metrics["error"]
        return f"<Candidate: error {error:.4f} at {cost:.3f} of the FLOPs, {self.recipe.to_dict()}>"

    def build(self) -> nn.Module:
        """Return the sub-network as it was measured, as a module to train or ship: in eval mode, zeros held."""
        return self._masked()[0]

    def executed(self) -> Executed:
        """Return the sub-network as it runs fastest on this machine, patterns used where that helps, for inference."""
        return self.evaluator.meter.executed(*self._masked())

    def _masked(self) -> tuple[nn.Module, Masks]:
        return self.evaluator.masked(self.recipe, int(self.metrics.get("rung", len(self.evaluator.rungs) - 1)))

    def save(self, folder: str | Path) -> None:
        """Export the sub-network so that `explorer.load` gives it back.

        A model that was given to `explore` as an importable factory comes back as a module; one given as an
        instance as the module of an exported program, or as itself with ``load(folder, model=skeleton)``.

        Raises
        ------
        PruningError
            If the folder can't be written.
        """
        from explorer.export.files import save

        metrics = without_choices(pd.DataFrame([self.metrics])).iloc[0].dropna().to_dict()
        meter = self.evaluator.meter
        example = head(meter.validation[0][0], 1)
        network = meter.network
        facts = {"metrics": metrics}
        module, masks = self._masked()
        save(
            module,
            self.recipe,
            network,
            Path(folder),
            masks=masks,
            factory=self.factory,
            example=example,
            facts=facts,
        )


@dataclass(frozen=True)
class Study:
    """The outcome of an exploration: its problem, the evaluated recipes, the factory's import path if there is one."""

    problem: Problem
    records: Sequence[Record]
    factory: str | None = None

    def __repr__(self) -> str:
        name, points = self.problem.space.network.name, len(self.frontier)
        volume = f"hypervolume {self.hypervolume:.4f}"
        return f"<Study of {name}: {len(self.records)} trials, {points} on the frontier, {volume}>"

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
        recipe = self.problem.space.recipe(self.records[int(row["trial"])].row)
        return Candidate(recipe, row.to_dict(), self.problem.evaluator, self.factory)

    def allocate(self, allocation: str, *, family: str | None = None, **target: Any) -> Candidate:
        """Return the sub-network that a baseline allocation makes for a target, evaluated; it is no trial.

        Parameters
        ----------
        allocation
            ``uniform``, ``global``, ``lamp`` or ``erk``: see `explorer.allocations`.
        family
            In a space of several what is allocated: ``channels``, or a granularity.
        target
            One of FLOPs, parameters, bytes or latency, see `explorer.pruning.allocation.allocate`. What of it was asked
            and achieved is in the candidate's metrics.

        Raises
        ------
        PruningError
            If a name is unknown, or the target is out of reach.

        Examples
        --------
        ``study.allocate("global", flops=0.5).metrics["error"]`` beside ``study.best(flops=0.5).metrics["error"]``.
        """
        found = self.problem.allocate(allocation, target, family=family)
        return Candidate(found.recipe, evaluated(self.problem, found), self.problem.evaluator, self.factory)

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
    excess = limits.excess({name: front[name].to_numpy(dtype=float) for name in COSTS}, dense)
    inside = np.all([np.ones(len(front)), *(value <= 0 for value in excess.values())], axis=0)
    if not inside.any():
        metric = limits.bounds[0][0] if limits.bounds else "flops"
        reach = f"the frontier begins at {front[f'{metric}_ratio'].min():.4g} of dense" if len(front) else "it is empty"
        raise PruningError(f"{metric}: no frontier point is within {dict(budget)}, {reach}")
    chosen = front[inside]
    return chosen.loc[chosen["error"].idxmin()]


def explore(
    model: nn.Module | Callable[[], nn.Module] | str,
    train: Iterable[Any],
    validation: Iterable[Any],
    *,
    space: str | Mapping[str, Any] | PruningSpace = "filter",
    budget: Mapping[str, Any] | None = None,
    objectives: Sequence[str] = ("error", "flops"),
    trials: int = 64,
    timeout: float | None = None,
    sampler: str = "frontier",
    options: Mapping[str, Any] | None = None,
    criterion: str | Mapping[str, Any] = "l1",
    task: Task | None = None,
    evaluator: str | Mapping[str, Any] = "inherit",
    finetuning: Mapping[str, Any] | None = None,
    executor: str | Mapping[str, Any] = "inline",
    calibration_batches: int = 10,
    ladder: Ladder = 8,
    seed: int = 0,
    storage: BaseStorage | None = None,
    folder: str | Path | None = None,
    on_record: Callable[[list[Record]], None] | None = None,
) -> Study:
    """Explore the sub-networks of a trained model and return the study.

    Parameters
    ----------
    model
        A trained module of any class, or what makes one without arguments: a factory or its import path. The
        module is not changed.
    train, validation
        Batches of inputs, as the model takes them, and targets, such as a DataLoader: see `explorer.data.draw`. The
        first of `train` re-estimate batch norm, `validation` is read once and kept. Neither may be an iterator.
        Evaluators that train read `train` once an epoch.
    space
        The name of one in conf/space, a file ending in .yaml, a mapping as in such a file, or a space bound to
        this model's Network.
    budget
        Limits ``{"flops": 0.5, "params": "200k", "latency_ms": 3}``; no evaluation is spent outside.
    objectives
        Keys of `explorer.search.metrics.OBJECTIVES`, minimised.
    trials, timeout
        Recipes to evaluate, and minutes after which no further evaluation begins.
    sampler, options
        A key of `explorer.search.samplers.SAMPLERS`, and its options.
    criterion
        A key of `explorer.pruning.criteria.CRITERIA`, or a mapping with ``name`` and options:
        see `explorer.pruning.criteria.Options`.
    task
        Loss and metric; by default that of telling as many classes apart as the largest validation label says.
    evaluator
        ``inherit``, ``finetune`` or ``scratch``, or a mapping with ``name`` and ``rungs``, ``eta`` or ``racing``, as in
        conf/evaluator.
    finetuning
        How candidates are trained, as in the section of conf/run.yaml; batches are those of `train`.
    executor
        ``inline``, ``local``, ``ray`` or ``slurm``, or a mapping with ``name`` and options, as in conf/executor.
    calibration_batches
        Batches of `train` for batch-norm statistics.
    ladder
        Uniform ratios evaluated first: how many, evenly spaced, or which.
    seed
        Of the sampler.
    storage
        An Optuna storage to keep the study in and continue it from; in memory by default. The study's name is a
        hash of the model's classes and state, its Network, the batches kept and the arguments.
    folder
        Where what candidates were trained to is kept, so that those promoted or interrupted go on, and those of the
        frontier are built without training again; None keeps nothing.
    on_record
        Called with all records after each evaluation.

    Raises
    ------
    PruningError
        On any of the caller's mistakes, in one line.
    """
    for key, value, least in [("trials", trials, 1), ("seed", seed, 0)]:
        checked_number(key, value, least=least)
    checked_ladder(ladder)
    checked_number("calibration_batches", calibration_batches, least=1)
    checked_number("timeout", timeout, least=0, whole=False, optional=True)
    if task is not None and not isinstance(task, Task):
        raise PruningError(
            f"task: a {type(task).__name__}, allowed is an explorer.Task such as explorer.data.task.regression()"
        )
    if not isinstance(space, str | Mapping | PruningSpace):
        raise PruningError(f"space: a {type(space).__name__}, allowed is a name, a mapping or a spaces.PruningSpace")
    chosen = Options.of(criterion)
    measure = named_section("evaluator", evaluator, without=("batch_size", "calibration_batches", "images"))
    workers = named_section("executor", executor)
    check_evaluator(measure)
    check_executor(workers)
    settings = Settings.of(run_section("finetuning", finetuning or {}, without=("batch_size",)))
    factory = None if isinstance(model, nn.Module) else model if isinstance(model, str) else import_path(model)
    module = _module(model)
    device = device_of(module)
    calibration = [moved(batch, device) for batch in draw(train, calibration_batches, key="train")]
    kept = [moved(batch, device) for batch in draw(validation, key="validation")]
    scored = [moved(batch, device) for batch in scoring_batches(train, chosen)]
    measured = _classes(kept) if task is None else task

    def candidates(inherited: Inherited) -> Inherited | Finetuned:
        if "rungs" not in measure:
            return inherited
        start = "scratch" if measure["name"] == "scratch" else "inherit"
        kept = None if folder is None else Path(folder)
        return Finetuned(inherited, train, settings, measure["rungs"], seed=seed, start=start, folder=kept)

    problem = Problem.of(
        module,
        named_space(space) if isinstance(space, str) else space,
        calibration,
        kept,
        budget=budget or {},
        objectives=objectives,
        criterion=chosen,
        task=measured,
        scored=scored,
        racing=measure["racing"],
        evaluator=candidates,
    )
    if options is None:
        options = {"multivariate": True} if sampler == "tpe" else {}
    arguments = [dict(budget or {}), list(objectives), sampler, dict(options), chosen, ladder, seed, measure, settings]
    arguments += [fingerprint(getattr(measured, field.name)) for field in fields(measured)]
    if "rungs" in measure:
        arguments.append(identity_of(train))
    name = _identity(module, problem, [*calibration, *kept, *scored], arguments)
    eta = measure.get("eta", 3)
    for doubt in (problem.doubt(), rungs.doubt(trials, len(problem.evaluator.rungs), eta)):
        if doubt is not None:
            warnings.warn(doubt, stacklevel=2)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        running = make_executor(workers, problem.evaluator, folder=scratch, device=str(device))
        stack.callback(running.close)
        search = problem.search(
            open_study(storage, name, objectives),
            sampler=sampler,
            options=options,
            seed=seed,
            ladder=ladder,
            executor=running,
            eta=eta,
            shared=storage is not None,
        )
        search.run(trials, timeout=timeout, on_record=on_record)
    return Study(problem, search.records, factory)


def import_path(factory: Callable[..., Any]) -> str | None:
    """Return the dotted path a factory can be imported by; None for a lambda, a local function or ``__main__``."""
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", "<")
    return None if module in (None, "__main__") or "<" in name or "." in name else f"{module}.{name}"


def _module(model: nn.Module | Callable[[], nn.Module] | str) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    from explorer.utils.instantiate import called, locate

    if not callable(model) and not isinstance(model, str):
        raise PruningError(
            f"model: a {type(model).__name__}, allowed is a torch module, or a factory or its import path"
        )
    module = called("model", locate("model", model) if isinstance(model, str) else model, {})
    if not isinstance(module, nn.Module):
        raise PruningError(f"model: {model!r} gives a {type(module).__name__}, not a torch module")
    return module


def _classes(batches: Sequence[Batch]) -> Task:
    """Return the classification whose classes these targets are."""
    labels = [targets for _, targets in batches]
    if not all(isinstance(y, torch.Tensor) and y.dim() == 1 and not y.is_floating_point() for y in labels):
        raise PruningError("task: not given, and the targets are no labels of classes; give an explorer.Task")
    if (least := min(int(y.min()) for y in labels)) < 0:
        raise PruningError(
            f"validation: a label is {least}, allowed are classes counted from 0; else give an explorer.Task"
        )
    return classification(max(int(y.max()) for y in labels) + 1)


def _identity(module: nn.Module, problem: Problem, batches: Sequence[Batch], arguments: Sequence[Any]) -> str:
    """Return a study's name: a hash of all that its values depend on."""
    axes = [(axis.label, axis.choices) for axis in problem.space.axes]
    space = [problem.space.network.identity, axes, problem.space.constraints]
    return f"exploration-{fingerprint(module, space, arguments, batches)}"
