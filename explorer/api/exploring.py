"""`explorer.explore`, the entrance from Python: the same search as the command's, of any module and any batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage
from torch import nn

from explorer.analysis.tables import observations
from explorer.api.sections import Sections
from explorer.data.task import Task
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.training import identity_of
from explorer.models.given import import_path, module_of
from explorer.problem import Problem
from explorer.pruning.allocation import asked_baselines, check_reach
from explorer.search.drawing import Drawing
from explorer.search.executors import check_executor, make_executor
from explorer.search.history import Record
from explorer.search.ladder import Ladder
from explorer.search.plan import Plan
from explorer.search.samplers import Observations
from explorer.search.storage import open_study
from explorer.study import Study
from explorer.utils.conf import chosen, defaults, named_section, run_section
from explorer.utils.console import progress as bar
from explorer.utils.fingerprints import fingerprint
from explorer.utils.keywords import known_keywords
from explorer.utils.modules import device_of
from explorer.utils.space_section import named_space
from spaces import PruningError, PruningSpace

__all__ = ["explore"]


@known_keywords
def explore(
    model: nn.Module | Callable[[], nn.Module] | str,
    train: Iterable[Any],
    validation: Iterable[Any],
    *,
    space: str | Mapping[str, Any] | PruningSpace | None = None,
    budget: Mapping[str, Any] | None = None,
    objectives: Sequence[str] | None = None,
    trials: int | None = None,
    timeout: float | None = None,
    sampler: str | BaseSampler | Callable[..., BaseSampler] | None = None,
    options: Mapping[str, Any] | None = None,
    criterion: str | Mapping[str, Any] | Callable[[Any], Any] | None = None,
    task: Task | None = None,
    evaluator: str | Mapping[str, Any] | None = None,
    finetuning: Mapping[str, Any] | None = None,
    supernet: Mapping[str, Any] | None = None,
    executor: str | Mapping[str, Any] = "inline",
    calibration_batches: int | None = None,
    ladder: Ladder | None = None,
    drawing: Drawing | None = None,
    seed: int | None = None,
    warm_start: Sequence[Study | pd.DataFrame] = (),
    baselines: Sequence[str] = (),
    baseline_targets: Mapping[str, Sequence[Any]] | None = None,
    baseline_family: str | None = None,
    final: Mapping[str, Any] | None = None,
    latency: Mapping[str, Any] | None = None,
    test: Iterable[Any] | None = None,
    storage: BaseStorage | None = None,
    folder: str | Path | None = None,
    on_record: Callable[[list[Record]], None] | None = None,
    progress: bool = True,
) -> Study:
    """Explore the sub-networks of a trained model and return the study.

    What is not given is as in conf/, as for the command ``explore run``.

    Parameters
    ----------
    model
        A trained module of any class, or what makes one without arguments: a factory or its import path. The
        module is not changed.
    train, validation
        Batches of inputs, as the model takes them, and targets, such as a DataLoader: see `explorer.data.draw`. The
        first of `train` calibrate sub-networks, `validation` is read once and kept. Neither may be an iterator.
        Evaluators that train read `train` once an epoch.
    space
        The name of one in conf/space, a file ending in .yaml, a mapping as in such a file, or a space bound to
        this model's Network.
    budget
        Limits ``{"flops": 0.5, "params": "200k", "latency_ms": 3}``; no evaluation is spent outside.
    objectives
        Keys of `explorer.search.metrics.OBJECTIVES`, minimised.
    trials, timeout
        Recipes to evaluate, and minutes after which no further evaluation begins and trainings end after their epoch.
    sampler, options
        A key of `explorer.search.samplers.SAMPLERS`, an Optuna sampler, or a function that makes one of a ``seed`` and
        the options; and these options.
    criterion
        A key of `explorer.pruning.criteria.CRITERIA`, a function of yours or its import path, or a mapping with one of
        these as ``name`` and options: see `explorer.pruning.criteria.Options`.
    task
        Loss and metric; by default that of telling as many classes apart as the largest validation label says.
    evaluator
        ``inherit``, ``reconstruct``, ``finetune`` or ``scratch``, or a mapping with ``name`` and ``rungs``, ``eta``,
        ``racing``, ``positions`` or ``ridge``, as in conf/evaluator.
    finetuning
        How candidates are trained, as in the section of conf/run.yaml; batches are those of `train`.
    supernet
        How weights that all sub-networks share are trained, as in the section of conf/run.yaml.
    executor
        ``inline``, ``local``, ``ray`` or ``slurm``, or a mapping with ``name`` and options, as in conf/executor.
    calibration_batches
        Batches of `train` that sub-networks are calibrated on.
    ladder
        Uniform ratios evaluated first: how many, evenly spaced, or which.
    drawing
        How `trials` recipes are drawn as a population, see `explorer.population`; no sampler and no ladder add others.
    seed
        Of the sampler.
    warm_start
        Earlier studies of the same network, or their trials tables, for the sampler to begin with. They must have been
        measured by the same evaluator on the same data.
    baselines, baseline_targets, baseline_family
        Allocations measured beside the search, as in conf/run.yaml; they are the study's ``baselines``.
    latency
        How latency is measured, as in the section of conf/run.yaml: ``{"runtime": "onnxruntime"}``.
    final, test
        Which frontier points are retrained at the end, as in the section of conf/run.yaml, and the batches they are
        measured on; they are the study's ``final``. `test` is read then and chooses nothing.
    storage
        An Optuna storage to keep the study in and continue it from; in memory by default. The study's name is a
        hash of the model's classes and state, its Network, the batches kept and the arguments.
    folder
        Where what candidates were trained to is kept, so that those promoted or interrupted go on, and those of the
        frontier are built without training again; None keeps nothing.
    on_record
        Called with all records after each evaluation.
    progress
        Whether stderr shows how far the search is: a bar on a terminal, elsewhere a line every half a minute.

    Raises
    ------
    PruningError
        On any of the caller's mistakes, in one line.
    """
    if task is not None and not isinstance(task, Task):
        raise PruningError(f"task: a {type(task).__name__}, allowed is an explorer.Task such as explorer.regression()")
    if space is not None and not isinstance(space, str | Mapping | PruningSpace):
        raise PruningError(f"space: a {type(space).__name__}, allowed is a name, a mapping or a spaces.PruningSpace")
    sections = Sections.of(
        evaluator,
        calibration_batches,
        criterion=criterion,
        finetuning=finetuning,
        supernet=supernet,
        final=final,
        baselines=asked_baselines(baselines, run_section("baseline_targets", baseline_targets or {}), baseline_family),
        latency=latency,
        seed=seed,
        train=train,
    )
    if sections.final.asked and test is None:
        raise PruningError("final: given, and so must be test, on which retrained sub-networks are measured")
    plan = _plan(sections, objectives, sampler, options, seed, ladder, trials, timeout)
    if drawing is not None:
        Drawing.check_protocol(len(sections.evaluator.rungs), racing=sections.evaluator.racing)
        plan = replace(plan, drawing=drawing, ladder=0)
    workers = named_section("executor", executor)
    check_executor(workers)
    factory = None if isinstance(model, nn.Module) else model if isinstance(model, str) else import_path(model)
    module = module_of(model)
    problem = sections.problem(
        module,
        _space(space),
        train,
        validation,
        plan=plan,
        budget=budget or {},
        task=task,
        folder=None if folder is None else Path(folder),
    )
    if sections.final.points:
        sections.finetuned(problem.inherited, train, (sections.final.epochs,), plan.seed, None).check()
    check_reach(problem.space, sections.baselines)
    plan = replace(plan, warm_start=_earlier(warm_start, problem.space, plan.objectives))
    for doubt in problem.doubts(plan):
        # of who called, past the check of keywords
        warnings.warn(doubt, stacklevel=3)
    name = _identity(module, problem, sections, plan, budget, train)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(TemporaryDirectory()))
        running = make_executor(workers, problem.evaluator, folder=scratch, device=str(device_of(module)))
        stack.callback(running.close)
        study = open_study(storage, name, plan.objectives)
        search = problem.search(study, plan, executor=running, shared=storage is not None)
        shown = bar("exploring", plan.trials, len(search.records)) if progress else nullcontext(None)
        with shown as show:

            def told_of(records: list[Record]) -> None:
                if show is not None:
                    show(len(records), problem.remark(records))
                if on_record is not None:
                    on_record(records)

            ended = search.run(plan.trials, timeout=plan.timeout, on_record=told_of)
    found = Study(problem, search.records, factory)
    if ended == "timeout":
        # no further evaluation begins
        return found
    rows = [problem.baseline(asked)[0] for asked in sections.baselines]
    return replace(
        found, baselines=pd.DataFrame(rows) if rows else None, final=sections.retrained(found, train, test, plan.seed)
    )


def _plan(
    sections: Sections,
    objectives: Sequence[str] | None,
    sampler: str | BaseSampler | Callable[..., BaseSampler] | None,
    options: Mapping[str, Any] | None,
    seed: int | None,
    ladder: Ladder | None,
    trials: int | None,
    timeout: float | None,
) -> Plan:
    base = defaults("run")
    name = chosen("sampler") if sampler is None else sampler
    known = named_section("sampler", name)["options"] if isinstance(name, str) else {}
    return Plan(
        base["objectives"] if objectives is None else objectives,
        name,
        known if options is None else options,
        base["seed"] if seed is None else seed,
        base["ladder"] if ladder is None else ladder,
        sections.evaluator.eta,
        base["trials"] if trials is None else trials,
        timeout,
    )


def _space(given: str | Mapping[str, Any] | PruningSpace | None) -> Mapping[str, Any] | PruningSpace:
    if isinstance(given, Mapping | PruningSpace):
        return given
    return named_space(chosen("space") if given is None else given)


def _earlier(
    studies: Sequence[Study | pd.DataFrame], space: PruningSpace, objectives: Sequence[str]
) -> Observations | None:
    """Return what earlier studies say of a space's recipes.

    Raises
    ------
    PruningError
        If one is of another network.
    """
    tables = []
    for study in studies:
        if isinstance(study, Study) and study.problem.space.network.identity != space.network.identity:
            raise PruningError(f"warm_start: a study of another network, {study.problem.space.network.name}")
        tables.append(study.trials if isinstance(study, Study) else study)
    return Observations.joined([observations(table, space, objectives) for table in tables]) if tables else None


def _identity(
    module: nn.Module,
    problem: Problem,
    sections: Sections,
    plan: Plan,
    budget: Mapping[str, Any] | None,
    train: Iterable[Any],
) -> str:
    """Return a study's name: a hash of all that its values depend on."""
    space, task = problem.space, problem.meter.task
    axes = [(one.label, one.choices) for axis in space.axes for one in (axis, *axis.members)]
    parts: list[Any] = [module, space.network.identity, axes, space.constraints]
    parts += [dict(budget or {}), replace(plan, trials=1, timeout=None)]
    parts += [sections.evaluator, sections.finetuning, sections.supernet, sections.criterion, problem.pruner.scores]
    parts += [getattr(task, field.name) for field in fields(task)]
    # what latencies were measured in is another study's, where there are any
    parts += [problem.meter.latency and sections.timing.runtime]
    parts += [problem.inherited.calibration, problem.meter.validation]
    if isinstance(problem.evaluator, Finetuned):
        parts.append(identity_of(problem.evaluator.batches))
    return f"exploration-{fingerprint(*parts)}"
