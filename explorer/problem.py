"""Problem: a model, the space of its sub-networks and how they are measured; all that a search needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from torch import nn

from explorer.analysis.sensitivity import sensitivity_table
from explorer.analysis.tables import Scale
from explorer.data import Batch, head
from explorer.data.task import Task
from explorer.evaluation.allocated import evaluated
from explorer.evaluation.budgets import LatencyLimit
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.features import Features, features_of
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.meter import Meter
from explorer.pruning.allocation import Allocated, Baseline, allocate
from explorer.pruning.criteria import Options, Scores, cached_scores
from explorer.pruning.pruner import Pruner
from explorer.pruning.reconstruction import Settings
from explorer.pruning.surgery import Surgeon
from explorer.search.executors import Inline
from explorer.search.frontier import hypervolume
from explorer.search.history import Record
from explorer.search.jobs import Executor, reason_of
from explorer.search.ladder import ladder_rows
from explorer.search.metrics import error_metric
from explorer.search.plan import Plan
from explorer.search.rungs import at_highest, doubt
from explorer.search.search import Search
from explorer.tracing import trace
from explorer.utils.console import steps
from spaces import COSTS, Budget, PruningError, PruningSpace, Recipe, check_cost, sample_inside

__all__ = ["Problem", "refuse_empty"]

log = logging.getLogger("explorer")

Share = Callable[[nn.Module, PruningSpace, Scores, Task, Budget], nn.Module]
"""From a dense network, its space, scores and task, and the budget, to the network with shared weights."""


@dataclass(frozen=True, repr=False)
class Problem:
    """What is explored.

    Parameters
    ----------
    space
        The recipes.
    inherited
        Makes sub-networks of inherited weights.
    scale
        Objectives and the reference of the hypervolume.
    limits
        The budget's exact part.
    dense
        The dense network's metrics and costs.
    criterion
        What the pruner's scores were made by.
    evaluator
        Evaluates the recipes that a search proposes.
    """

    space: PruningSpace
    inherited: Inherited
    scale: Scale
    limits: Budget
    dense: Mapping[str, float]
    criterion: Options
    evaluator: Inherited | Finetuned

    @classmethod
    def of(
        cls,
        module: nn.Module,
        space: Mapping[str, Any] | PruningSpace,
        calibration: Sequence[Batch],
        validation: Sequence[Batch],
        *,
        limits: Budget,
        latency: LatencyLimit,
        runtime: str = "torch",
        objectives: Sequence[str],
        criterion: Options,
        task: Task,
        scored: Sequence[Batch] | None = None,
        cache: Path | None = None,
        racing: bool = False,
        share: Share | None = None,
        reconstruction: Settings | None = None,
        evaluator: Callable[[Inherited], Inherited | Finetuned] = lambda inherited: inherited,
    ) -> Problem:
        """Trace a trained module and measure it; what is asked for is checked before anything long is done.

        Parameters
        ----------
        module
            The dense network.
        space
            As in a space file, or bound to the module's Network.
        calibration, validation
            Batches on the module's device; see `Inherited` and `Meter`.
        limits, latency
            The budget's exact and its measured part, see `explorer.evaluation.budgets`.
        runtime
            What latency is measured in, see `Meter`.
        objectives
            Keys of `OBJECTIVES`.
        criterion
            What scores are made by.
        task
            What the network is for.
        scored
            Batches that a criterion that needs data sees, on the module's device; by default those of calibration.
        cache
            A folder in which scores that need data are kept.
        racing
            Whether evaluations may end early, see `Meter`.
        share
            Trains weights that sub-networks inherit in place of the dense network's.
        reconstruction
            How sub-networks are calibrated, see `Inherited`.
        evaluator
            Makes the evaluator that trains of the one of inherited weights; by default there is no training.

        Raises
        ------
        PruningError
            If anything asked for is unknown, the model has nothing to prune, or the budget holds no recipe.
        """
        criterion.check(space)
        for key, batches in (("validation", validation), ("train", calibration)):
            with _blamed(key):
                task.check(module, batches[0])
        with _blamed("validation"):
            task.check_targets(validation)
        task = task.referred(module, calibration, validation)
        if isinstance(space, PruningSpace):
            # says what is missing where the space is of another network
            Surgeon(module, space.network)
        else:
            space = PruningSpace.from_config(trace(module, head(validation[0][0], 1), outputs=task.prediction), space)
        refuse_empty(space, limits)
        for objective in objectives:
            if objective in COSTS:
                check_cost(objective, space.dense, "objectives")
        data = calibration if scored is None else scored
        steps.info("scoring what can be pruned by %s", criterion.name)
        scores = cached_scores(module, space.network, criterion, batches=data, task=task, folder=cache)
        inherited = Inherited.of(
            module,
            space.network,
            scores,
            calibration,
            validation,
            task,
            latency=latency if "latency" in objectives or latency != LatencyLimit() else None,
            runtime=runtime,
            racing=racing,
            shared=None if share is None else share(module, space, scores, task, limits),
            reconstruction=reconstruction,
        )
        scale = Scale(objectives, task.reference, error_metric(task.label, task.scale))
        steps.info("measuring the dense network")
        made, dense = evaluator(inherited), inherited.meter.dense()
        task.check_direction(dense)
        if isinstance(made, Finetuned):
            made.check()
        return cls(space, inherited, scale, limits, dense | space.dense, criterion, made)

    @property
    def meter(self) -> Meter:
        """The meter of sub-networks."""
        return self.inherited.meter

    @property
    def pruner(self) -> Pruner:
        """The pruner of the weights that sub-networks inherit."""
        return self.inherited.pruner

    def timings(self, recipe: Recipe, *, batch: bool = True) -> dict[str, float]:
        """Return a recipe's latencies, see `Meter.timings`."""
        return self.meter.timings(*self.inherited.pruned(recipe), batch=batch)

    def allocate(self, name: str, target: Mapping[str, Any], *, family: str | None = None) -> Allocated:
        """Return the recipe by which an allocation reaches a target, see `explorer.pruning.allocation.allocate`."""
        return allocate(
            self.space,
            self.pruner.scores,
            name,
            target,
            family=family,
            quadratic=self.criterion.row.quadratic,
            timings=lambda recipe: self.timings(recipe, batch=False),
            changes=lambda: self.features.changes,
        )

    def _no_better_than_chance(self) -> str | None:
        """Return a sentence for a dense network that is no better than a constant prediction, None for others."""
        error, trivial = self.dense["error"], self.meter.task.trivial
        if trivial is None or error < trivial:
            return None
        shown = self.scale.error
        return (
            f"the dense network has a {shown.label} of {shown.text(error)}, no better than a constant prediction "
            f"({shown.text(trivial)}): is it trained, and are inputs normalised as they were then?"
        )

    def baseline(self, asked: Baseline) -> tuple[dict[str, Any], Allocated | None]:
        """Return the row of an evaluated baseline, and its recipe.

        The row of one that failed has its ``reason`` in place of metrics, and there is no recipe.
        """
        try:
            found = self.allocate(asked.allocation, {asked.metric: asked.asked}, family=asked.family)
            row = {"baseline": asked.name, **evaluated(self.evaluator, self.space, found)}
        except Exception as error:
            reason = reason_of(error)
            log.warning("%s failed: %s", asked.name, reason)
            plain = {"baseline": asked.name, "allocation": asked.allocation, "family": asked.family}
            return {**plain, "target": asked.metric, "asked": asked.asked, "state": "FAIL", "reason": reason}, None
        log.info("%s: %s, error %.4f", asked.name, found, row["error"])
        return row, found

    @cached_property
    def features(self) -> Features:
        """What is known of the recipes before any is evaluated."""
        return features_of(self.inherited, self.space, self.inherited.calibration)

    @property
    def sensitivity(self) -> pd.DataFrame:
        """How much each choice alone changes the predictions, see `explorer.analysis.sensitivity`."""
        return sensitivity_table(self.space, self.features.changes, self.features.measured)

    @property
    def has_features(self) -> bool:
        """Whether the features were measured, as a sampler or a baseline asked for them."""
        return "features" in vars(self)

    def search(
        self, study: optuna.Study, plan: Plan, *, executor: Executor | None = None, shared: bool = True
    ) -> Search:
        """Return the search of this problem in an Optuna study, continuing what the study holds.

        Parameters
        ----------
        study
            With the plan's objectives.
        plan
            How.
        executor
            Where recipes are evaluated; None for this process.
        shared
            Whether the study may have other drivers.
        """
        return Search(
            study,
            self.space,
            Inline(self.evaluator) if executor is None else executor,
            objectives=plan.objectives,
            budget=self.limits,
            sampler=plan.sampler,
            options=plan.options,
            seed=plan.seed,
            ladder=self._first_rows(plan),
            ladder_source="ladder" if plan.drawing is None else "population",
            dense=self.dense,
            rungs=len(self.evaluator.rungs),
            eta=plan.eta,
            warm_start=plan.warm_start,
            reference=self.scale.reference,
            # measured when a sampler first asks for them
            features=lambda rows: self.features(rows),
            shared=shared,
        )

    def _first_rows(self, plan: Plan) -> list[np.ndarray]:
        """Return the recipes evaluated first: uniform ratios, or a whole population."""
        if plan.drawing is None:
            return ladder_rows(self.space, plan.ladder)
        return plan.drawing.rows(self.space, plan.trials, self.limits)

    def remark(self, records: Sequence[Record]) -> str:
        """Return in a few words how far a search has got, to stand beside its bar."""
        here = at_highest(records)
        volume = hypervolume([record.values for record in here if record.values is not None], self.scale.reference)
        rung = f" of rung {here[0].rung}" if here and len(self.evaluator.rungs) > 1 else ""
        # none where all so far were over a limit on the latency
        failed = f", failed: {records[-1].reason}" if records and records[-1].values is None else ""
        return f"hypervolume{rung} {volume:.4f}{failed}"

    def doubts(self, plan: Plan) -> list[str]:
        """Return sentences on what makes a study of this problem doubtful; none for most."""
        found = [self._no_better_than_chance(), doubt(plan.trials, len(self.evaluator.rungs), plan.eta)]
        return [sentence for sentence in found if sentence is not None]


@contextmanager
def _blamed(key: str) -> Iterator[None]:
    """Let a mistake in data name the data it is in."""
    try:
        yield
    except PruningError as error:
        raise PruningError(f"{key}: {error}") from None


def refuse_empty(space: PruningSpace, limits: Budget) -> None:
    """Raise a PruningError if no recipe of `space` but the dense network is inside its constraints and `limits`."""
    if all(axis.ratios == (1,) for axis in space.axes):
        why = f" at space.divisor={space.divisor}" if space.divisor > 1 else ""
        raise PruningError(f"space: its choices keep everything{why}, nothing is left to explore")
    rng = np.random.default_rng(0)
    try:
        # few draws and a local search tell at once in nearly every case
        sample_inside(space, 1, rng, budget=limits, max_draws=1 << 17)
    except PruningError:
        sample_inside(space, 1, rng, budget=limits)
