"""Sections: what a caller of `explorer.explore` says, parsed, and the problem that is made of it and of batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from torch import nn

from explorer.data import draw, moved
from explorer.data.labels import labelled
from explorer.data.task import Task
from explorer.evaluation.budgets import split_budget
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.settings import EvaluatorSettings, FinalSettings, LatencySettings, Settings, SupernetSettings
from explorer.evaluation.supernet import supernet as shared_weights
from explorer.problem import Problem
from explorer.pruning.allocation import Baseline
from explorer.pruning.criteria import Options, Scores, scoring_batches
from explorer.search.plan import Plan
from explorer.study import Study
from explorer.utils.checks import checked_number
from explorer.utils.conf import chosen, defaults, named_section, run_section
from explorer.utils.modules import device_of
from explorer.utils.settings import parsed
from spaces import Budget, PruningSpace

__all__ = ["Sections"]


@dataclass(frozen=True)
class Sections:
    """What a caller of `explorer.explore` says, each section parsed, as in `explorer.runs.config.RunConfig`."""

    evaluator: EvaluatorSettings
    finetuning: Settings
    start: str
    supernet: SupernetSettings
    final: FinalSettings
    criterion: Options
    baselines: Sequence[Baseline]
    timing: LatencySettings

    @classmethod
    def of(
        cls,
        evaluator: str | Mapping[str, Any] | None,
        calibration_batches: int | None,
        *,
        criterion: str | Mapping[str, Any] | Callable[..., Any] | None,
        finetuning: Mapping[str, Any] | None,
        supernet: Mapping[str, Any] | None,
        final: Mapping[str, Any] | None,
        baselines: Sequence[Baseline],
        latency: Mapping[str, Any] | None,
        seed: int | None,
        train: Iterable[Any],
    ) -> Sections:
        """Return the parsed sections; what is not given is as in conf/.

        Raises
        ------
        PruningError
            If a section is not as in conf/.
        """
        measured = EvaluatorSettings.of(_evaluator(evaluator, calibration_batches))
        trained = run_section("finetuning", finetuning or {}, refused=("batch_size", "images"))
        start = measured.start(trained["start"])
        return cls(
            measured,
            Settings.of(trained, start=start),
            start,
            parsed(SupernetSettings, "supernet", run_section("supernet", supernet or {})),
            parsed(FinalSettings, "final", run_section("final", final or {})),
            _criterion(criterion, defaults("run")["seed"] if seed is None else seed, train),
            baselines,
            parsed(LatencySettings, "latency", run_section("latency", latency or {}, refused=("seconds",))),
        )

    def problem(
        self,
        module: nn.Module,
        space: Mapping[str, Any] | PruningSpace,
        train: Iterable[Any],
        validation: Iterable[Any],
        *,
        plan: Plan,
        budget: Mapping[str, Any],
        task: Task | None,
        folder: Path | None,
    ) -> Problem:
        """Return the problem of a module and the caller's batches."""
        device = device_of(module)
        calibration = [moved(batch, device) for batch in draw(train, self.evaluator.calibration_batches, key="train")]
        kept = [moved(batch, device) for batch in draw(validation, key="validation")]
        limits, latency = split_budget(budget)
        return Problem.of(
            module,
            space,
            calibration,
            kept,
            limits=limits,
            latency=latency,
            runtime=self.timing.runtime,
            objectives=plan.objectives,
            criterion=self.criterion,
            task=labelled(kept) if task is None else task,
            scored=[moved(batch, device) for batch in scoring_batches(train, self.criterion)],
            racing=self.evaluator.racing,
            share=partial(self._shared, train) if self.supernet.epochs else None,
            reconstruction=self.evaluator.reconstruction(self.start),
            evaluator=lambda inherited: self._evaluator(inherited, train, plan.seed, folder),
        )

    def _shared(
        self, train: Iterable[Any], module: nn.Module, space: PruningSpace, scores: Scores, task: Task, limits: Budget
    ) -> nn.Module:
        return shared_weights(
            module,
            space,
            train,
            task=task,
            scores=scores,
            epochs=self.supernet.epochs,
            settings=replace(self.finetuning, learning_rate=self.supernet.learning_rate),
            limits=limits,
            samples=self.supernet.samples,
        )

    def _evaluator(
        self, inherited: Inherited, train: Iterable[Any], seed: int, folder: Path | None
    ) -> Inherited | Finetuned:
        if not self.evaluator.trains:
            return inherited
        return self.finetuned(inherited, train, self.evaluator.rungs, seed, folder)

    def finetuned(
        self, inherited: Inherited, train: Iterable[Any], rungs: Sequence[int], seed: int, folder: Path | None
    ) -> Finetuned:
        """Return what trains sub-networks on the caller's batches."""
        return Finetuned(inherited, train, self.finetuning, rungs, seed=seed, start=self.start, folder=folder)

    def retrained(
        self, study: Study, train: Iterable[Any], test: Iterable[Any] | None, seed: int
    ) -> pd.DataFrame | None:
        """Return the table of the frontier points that are retrained, None where none is asked for."""
        if not self.final.asked or test is None:
            return None
        device = device_of(study.problem.meter.model)
        batches = [moved(batch, device) for batch in draw(test, key="test")]
        finetuned = self.finetuned(study.problem.inherited, train, (self.final.epochs,), seed, None)
        with TemporaryDirectory() as folder:
            return study.retrained(study.chosen(self.final), finetuned, self.final, batches, Path(folder))


def _evaluator(given: str | Mapping[str, Any] | None, calibration_batches: int | None) -> dict[str, Any]:
    """Return the section of an evaluator; how many batches are read is the caller's loaders' to say."""
    section = named_section(
        "evaluator",
        chosen("evaluator") if given is None else given,
        refused=("batch_size", "calibration_batches", "images"),
    )
    if calibration_batches is not None:
        checked_number("calibration_batches", calibration_batches, least=1)
        section["calibration_batches"] = calibration_batches
    return section


def _criterion(given: str | Mapping[str, Any] | Callable[..., Any] | None, seed: int, train: Iterable[Any]) -> Options:
    """Return a criterion's options; its batches are drawn by the seed where `train` has a length, else the first."""
    options = Options.of(chosen("criterion") if given is None else given).located()
    told = isinstance(given, Mapping) and given.get("seed") is not None
    if told or "seed" not in options.row.options or not isinstance(train, Sized):
        return options
    return replace(options, seed=seed)
