"""Problem: a model, the space of its sub-networks and how they are measured; all that a search needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from torch import nn

from explorer.analysis.tables import Scale
from explorer.data import Batch, head
from explorer.data.task import Task
from explorer.evaluation.budgets import LatencyLimit, split_budget
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.features import Features, features_of
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.meter import Meter
from explorer.pruning.allocation import Allocated, allocate
from explorer.pruning.criteria import Options, Scores, cached_scores
from explorer.pruning.pruner import Pruner
from explorer.pruning.surgery import Surgeon
from explorer.search.executors import Inline
from explorer.search.jobs import Executor
from explorer.search.metrics import METRICS, Metric
from explorer.search.samplers import Observations
from explorer.search.search import Search
from explorer.tracing import trace
from explorer.utils.checks import Ladder, checked_objectives
from spaces import Budget, PruningError, PruningSpace, Recipe, sample_inside, unknown

__all__ = ["Problem", "error_metric", "ladder_rows", "named_space", "refuse_empty"]


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
        budget: Mapping[str, Any],
        objectives: Sequence[str],
        criterion: str | Mapping[str, Any] | Options,
        task: Task,
        scored: Sequence[Batch] | None = None,
        cache: Path | None = None,
        racing: bool = False,
        share: Share | None = None,
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
        budget, objectives, criterion
            As in the configuration.
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
        evaluator
            Makes the evaluator that trains of the one of inherited weights; by default there is no training.

        Raises
        ------
        PruningError
            If anything asked for is unknown, the model has nothing to prune, or the budget holds no recipe.
        """
        checked_objectives(objectives)
        limits, latency = split_budget(budget)
        options = Options.of(criterion)
        options.check(space)
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
            space = PruningSpace.from_config(trace(module, head(validation[0][0], 1)), space)
        refuse_empty(space, limits)
        data = calibration if scored is None else scored
        scores = cached_scores(module, space.network, options, batches=data, task=task, folder=cache)
        inherited = Inherited.of(
            module,
            space.network,
            scores,
            calibration,
            validation,
            task,
            latency=latency if "latency" in objectives or latency != LatencyLimit() else None,
            racing=racing,
            shared=None if share is None else share(module, space, scores, task, limits),
        )
        scale = Scale(objectives, task.reference, error_metric(task))
        made, dense = evaluator(inherited), inherited.meter.dense()
        task.check_direction(dense)
        if isinstance(made, Finetuned):
            made.check()
        return cls(space, inherited, scale, limits, dense | space.dense, options, made)

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
        )

    def doubt(self) -> str | None:
        """Return a sentence for a dense network that is no better than a constant prediction, None for others."""
        error, trivial = self.dense["error"], self.meter.task.trivial
        if trivial is None or error < trivial:
            return None
        shown = self.scale.error
        return (
            f"the dense network has a {shown.label} of {shown.text(error)}, no better than a constant prediction "
            f"({shown.text(trivial)}): is it trained, and are inputs normalised as they were then?"
        )

    @cached_property
    def features(self) -> Features:
        """What is known of the recipes before any is evaluated."""
        return features_of(self.inherited, self.space, self.inherited.calibration)

    def search(
        self,
        study: optuna.Study,
        *,
        sampler: str,
        options: Mapping[str, Any],
        seed: int,
        ladder: Ladder,
        executor: Executor | None = None,
        eta: float = 3,
        earlier: Observations | None = None,
        shared: bool = True,
    ) -> Search:
        """Return the search of this problem in an Optuna study, continuing what the study holds.

        Without an executor recipes are evaluated in this process. The best 1/`eta` of each rung are promoted. A sampler
        that can begins with what was measured `earlier`. A study that is `shared` may have other drivers.
        """
        return Search(
            study,
            self.space,
            Inline(self.evaluator) if executor is None else executor,
            objectives=self.scale.objectives,
            budget=self.limits,
            sampler=sampler,
            options=options,
            seed=seed,
            ladder=ladder_rows(self.space, ladder),
            dense=self.dense,
            rungs=len(self.evaluator.rungs),
            eta=eta,
            reference=self.scale.reference,
            # measured when a sampler first asks for them
            features=lambda rows: self.features(rows),
            earlier=earlier,
            shared=shared,
        )


@contextmanager
def _blamed(key: str) -> Iterator[None]:
    """Let a mistake in data name the data it is in."""
    try:
        yield
    except PruningError as error:
        raise PruningError(f"{key}: {error}") from None


def error_metric(task: Task) -> Metric:
    """Return the row of `METRICS` for the metric that a task minimises on validation."""
    return replace(METRICS["error"], label=f"validation {task.label}", scale=100 if task.unit == "%" else 1)


def refuse_empty(space: PruningSpace, limits: Budget) -> None:
    """Raise a PruningError if no recipe of `space` but the dense network is inside its constraints and `limits`."""
    if all(axis.ratios == (1,) for axis in space.axes):
        raise PruningError("space: its choices keep everything, nothing is left to explore")
    rng = np.random.default_rng(0)
    try:
        # few draws and a local search tell at once in nearly every case
        sample_inside(space, 1, rng, budget=limits, max_draws=1 << 17)
    except PruningError:
        sample_inside(space, 1, rng, budget=limits)


def ladder_rows(space: PruningSpace, ladder: Ladder) -> list[npt.NDArray[np.int16]]:
    """Return the rows of uniform ratios: those given, or so many evenly spaced from the space's least to 1.

    A space of several families (channels, kinds of pattern, blocks) has a ladder of each, of two ratios below 1 at
    least. The dense network is left out.
    """
    families = len(space.families)
    rows = []
    for family, places in space.families.items():
        ratios: Iterable[float] = ladder if isinstance(ladder, Sequence) else ()
        if isinstance(ladder, int) and ladder:
            axes = [(space.axes[place], name) for place, name in places.items()]
            least = min(axis.ratios[i] for axis, name in axes for i in axis.families[name])
            ratios = np.linspace(least, 1, ladder if families == 1 else max(3, -(-ladder // families)))
        rows += [space.uniform(ratio, family) for ratio in ratios]
    pruned = [row for row in rows if not space.is_dense(row)]
    return list({row.tobytes(): row for row in pruned}.values())


def named_space(name: str) -> Mapping[str, Any]:
    """Return a space of conf/space by its name, or the one in a file whose name ends in .yaml.

    Raises
    ------
    PruningError
        If there is none of that name.
    """
    from explorer.runs.config import conf, space_of

    if name.endswith((".yaml", ".yml")):
        return space_of({"space": {"path": name}})
    files = {path.stem: path for path in (conf() / "space").glob("*.yaml") if path.stem != "file"}
    if name not in files:
        raise unknown("space", name, sorted(files))
    return space_of({"space": {"path": files[name]}})
