"""Study: what an exploration gives back."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from explorer.analysis.plots import pareto_figure
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import best_within, chosen_trials
from explorer.analysis.tables import frontier_table, trials_table, without_choices
from explorer.data import Batch, head
from explorer.evaluation.allocated import evaluated
from explorer.evaluation.budgets import LatencyLimit
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.retraining import retrain
from explorer.evaluation.settings import FinalSettings
from explorer.problem import Problem
from explorer.pruning.patterns import Masks, check_same
from explorer.pruning.sparse import Executed
from explorer.pruning.surgery.skeleton import copied
from explorer.search.history import Record
from explorer.search.metrics import METRICS
from explorer.utils.checks import checked_number
from explorer.utils.fingerprints import fingerprint
from explorer.utils.keywords import known_keywords
from explorer.utils.modules import device_of, tensors_of
from spaces import PruningError, Recipe, unknown

__all__ = ["Candidate", "Study"]


@dataclass(frozen=True)
class Candidate:
    """One sub-network of a study: its recipe, its row of the trials table, and how to build it."""

    recipe: Recipe
    metrics: Mapping[str, Any]
    evaluator: Inherited | Finetuned
    factory: str | None = None
    # the modules that were built and are still there, and what their tensors were then
    _built: WeakKeyDictionary[nn.Module, str] = field(
        init=False, repr=False, compare=False, default_factory=WeakKeyDictionary
    )

    def __getstate__(self) -> dict[str, Any]:
        # what was built stays with the process that did
        return vars(self) | {"_built": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state | {"_built": WeakKeyDictionary()})

    def __repr__(self) -> str:
        cost, error = self.metrics["flops_ratio"], self.metrics["error"]
        return f"<Candidate: error {error:.4f} at {cost:.3f} of the FLOPs, {self.recipe.to_dict()}>"

    def build(self) -> nn.Module:
        """Return the sub-network as it was measured, as a module to train or ship: in eval mode, zeros held."""
        module = self._masked()[0]
        self._built[module] = fingerprint(tensors_of(module))
        return module

    def executed(self) -> Executed:
        """Return the sub-network as it runs fastest on this machine, patterns used where that helps, for inference."""
        return self.evaluator.meter.executed(*self._masked())

    def _masked(self) -> tuple[nn.Module, Masks]:
        return self.evaluator.masked(self.recipe, int(self.metrics.get("rung", len(self.evaluator.rungs) - 1)))

    @known_keywords
    def save(self, folder: str | Path, *, module: nn.Module | None = None) -> None:
        """Export the sub-network so that `explorer.load` gives it back: as it was measured, or a module trained since.

        A model that was given to `explore` as an importable factory comes back as a module; one given as an
        instance as the module of an exported program, or as itself with ``load(folder, model=skeleton)``.

        Parameters
        ----------
        folder
            Created if it is not there.
        module
            The module that `build` returned and that was trained since; its error on validation is measured again.

        Raises
        ------
        PruningError
            If the folder can't be written, or the module is not this recipe's.

        Warns
        -----
        UserWarning
            If no module is given, and one that `build` returned has other weights or statistics since.

        Examples
        --------
        ``small = best.build()``, training of ``small``, ``best.save("small", module=small)``.
        """
        from explorer.export.files import save

        metrics = without_choices(pd.DataFrame([self.metrics])).iloc[0].dropna().to_dict()
        meter = self.evaluator.meter
        example = head(meter.validation[0][0], 1)
        network = meter.network
        written, masks = self._masked()
        if module is not None:
            check_same(module, written, network, masks)
            written = copied(module).to(device_of(meter.model)).eval()
            metrics |= meter.measured(written)
        elif any(fingerprint(tensors_of(built)) != before for built, before in self._built.items()):
            warnings.warn(
                "a module that build() returned was changed since, and the sub-network is written as it was measured; "
                "save(folder, module=...) writes one trained since",
                # past the check of keywords
                stacklevel=3,
            )
        facts = {"metrics": metrics}
        save(
            written,
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
    """The outcome of an exploration.

    Attributes
    ----------
    problem
        What was explored.
    records
        The evaluated recipes.
    factory
        The import path of what makes the model, if there is one.
    baselines, final
        The tables of baselines and of retrained points, None where none was asked for.
    """

    problem: Problem
    records: Sequence[Record]
    factory: str | None = None
    baselines: pd.DataFrame | None = None
    final: pd.DataFrame | None = None

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

    @property
    def sensitivity(self) -> pd.DataFrame:
        """One row a choice of the space: how much it alone changes the predictions, measured now where it was not.

        The columns are those of `explorer.analysis.sensitivity.sensitivity_table`.
        """
        return self.problem.sensitivity

    @known_keywords
    def frontier_at(self, rung: int) -> pd.DataFrame:
        """Return the frontier of the networks as they were at a lower rung, where errors are those of less training."""
        return frontier_table(self.trials, self.problem.scale, rung)

    def best(self, *, rung: int | None = None, **limits: Any) -> Candidate:
        """Return the sub-network of least error within limits on costs, with one on the error the cheapest.

        Parameters
        ----------
        rung
            Of the frontier; by default the highest, which the trials with most training reached.
        limits
            ``flops``, ``params`` or ``bytes`` as in a budget, ``latency_ms`` or ``latency`` (relative to dense) of one
            input, measured now where it was not, and ``error``, the most that is allowed, as a share.

        Raises
        ------
        PruningError
            If no frontier point is within the limits.

        Examples
        --------
        ``study.best(flops=0.5).build()`` is the module; ``study.best(params="100k")`` an absolute limit;
        ``study.best(error=0.1)`` the cheapest that is wrong on at most a tenth.
        """
        highest = len(self.problem.evaluator.rungs) - 1
        if rung is not None:
            checked_number("rung", rung, least=0)
            if rung > highest:
                raise PruningError(f"rung: {rung}, allowed are 0 to {highest}")
        front = self._timed(self.frontier if rung is None else self.frontier_at(rung), limits)
        row = best_within(front, self.problem.dense, limits, error=self.problem.scale.error)
        recipe = self.problem.space.recipe(self.records[int(row["trial"])].row)
        return Candidate(recipe, row.to_dict(), self.problem.evaluator, self.factory)

    def _timed(self, front: pd.DataFrame, limits: Mapping[str, Any]) -> pd.DataFrame:
        """Return a frontier with latencies, where a limit asks for them."""
        if "latency_ms" in front or not {"latency", "latency_ms"} & {key for key, value in limits.items() if value}:
            return front
        recipes = [self.problem.space.recipe(self.records[trial].row) for trial in front["trial"]]
        columns = pd.DataFrame([self.problem.timings(recipe, batch=False) for recipe in recipes], index=front.index)
        return pd.concat([front, columns], axis=1)

    def allocate(self, allocation: str, *, family: str | None = None, **target: Any) -> Candidate:
        """Return the sub-network that a baseline allocation makes for a target, evaluated; it is no trial.

        Parameters
        ----------
        allocation
            ``uniform``, ``global``, ``lamp``, ``erk``, ``threshold`` or ``knapsack``: see
            `explorer.pruning.allocation`.
        family
            In a space of several what is allocated: ``channels``, or a granularity; ``knapsack`` takes all by default.
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
        return Candidate(
            found.recipe,
            evaluated(self.problem.evaluator, self.problem.space, found),
            self.problem.evaluator,
            self.factory,
        )

    @property
    def bounds(self) -> list[tuple[str, float, float]]:
        """The budget as metric, least and most: amounts, and milliseconds for one input."""
        dense, latency = self.problem.dense, self.problem.meter.latency or LatencyLimit()
        found = list(self.problem.limits.absolute(dense))
        if latency.milliseconds:
            found.append(("latency_ms", 0.0, latency.milliseconds))
        if latency.ratio:
            found.append(("latency_ms", 0.0, latency.ratio * dense["latency_ms"]))
        return found

    def chosen(self, asked: FinalSettings) -> list[int]:
        """Return the trials of the frontier points to retrain, see `explorer.analysis.selection.chosen_trials`."""
        front = self._timed(self.frontier, asked.at or {})
        bounded = bool(self.bounds)
        return chosen_trials(front, asked.points, dense=self.problem.dense, at=asked.at, bounded=bounded)

    def retrained(
        self,
        trials: Sequence[int],
        finetuned: Finetuned,
        asked: FinalSettings,
        test: Sequence[Batch],
        folder: Path,
        on_training: Callable[[int, str], None] | None = None,
    ) -> pd.DataFrame:
        """Return the table of frontier points retrained over several seeds, see `explorer.evaluation.retraining`.

        Parameters
        ----------
        trials
            Of the points, see `chosen`.
        finetuned
            What trains sub-networks.
        asked
            How many trainings and epochs.
        test
            Batches on the device of the dense network.
        folder
            For checkpoints, results and weights.
        on_training
            Called after each training with how many are done and what was trained.
        """
        space = self.problem.space
        recipes = {RunFolder.point(trial): space.recipe(self.records[trial].row) for trial in trials}
        return retrain(
            finetuned, recipes, test, seeds=asked.seeds, epochs=asked.epochs, folder=folder, on_training=on_training
        )

    @known_keywords
    def plot(self, x: str = "flops") -> Figure:
        """Return the figure of error over the cost `x`, a key of `METRICS`."""
        costs = [key for key, metric in METRICS.items() if metric.cost]
        if x not in costs or x not in self.trials:
            raise unknown("x", x, [cost for cost in costs if cost in self.trials])
        return pareto_figure(self.trials, self.problem.dense, self.problem.scale, x=x, bounds=self.bounds)
