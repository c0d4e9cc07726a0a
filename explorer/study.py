"""Study: what an exploration gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from explorer.analysis.html import study_html
from explorer.analysis.plots import study_figure
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import best_within, chosen_trials, knee, trial_row
from explorer.analysis.tables import frontier_table, trials_table
from explorer.candidate import Candidate
from explorer.data import Batch
from explorer.evaluation.allocated import evaluated
from explorer.evaluation.budgets import LatencyLimit
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.retraining import retrain
from explorer.evaluation.settings import FinalSettings
from explorer.problem import Problem
from explorer.search.history import Record
from explorer.utils.checks import checked_number
from explorer.utils.keywords import known_keywords
from spaces import PruningError, Recipe

__all__ = ["Study"]


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
            ``flops``, ``params``, ``bytes`` or ``memory`` as in a budget, ``latency_ms`` or ``latency`` (relative to
            dense) of one input, measured now where it was not, and ``error``, the most that is allowed, as a share.

        Raises
        ------
        PruningError
            If no frontier point is within the limits.

        Examples
        --------
        ``study.best(flops=0.5).build()`` is the module; ``study.best(params="100k")`` an absolute limit;
        ``study.best(error=0.1)`` the cheapest that is wrong on at most a tenth.
        """
        front = self._timed(self._front(rung), limits)
        return self._point(best_within(front, self.problem.dense, limits, error=self.problem.scale.error))

    @known_keywords
    def knee(self, *, rung: int | None = None) -> Candidate:
        """Return the sub-network at the frontier's knee, see `explorer.analysis.selection.knee`.

        Parameters
        ----------
        rung
            Of the frontier, as for `best`.

        Raises
        ------
        PruningError
            If the frontier has none.
        """
        return self._point(knee(self._front(rung), self.problem.scale.columns[-1]))

    @known_keywords
    def candidate(self, trial: int) -> Candidate:
        """Return the sub-network of a trial, as it was at the highest rung that it ended well.

        Raises
        ------
        PruningError
            If there is no such trial, or it failed.
        """
        return self._point(trial_row(self.trials, trial))

    def _front(self, rung: int | None) -> pd.DataFrame:
        """Return the frontier of a rung, by default the highest."""
        highest = len(self.problem.evaluator.rungs) - 1
        if rung is None:
            return self.frontier
        checked_number("rung", rung, least=0)
        if rung > highest:
            raise PruningError(f"rung: {rung}, allowed are 0 to {highest}")
        return self.frontier_at(rung)

    def _point(self, row: pd.Series) -> Candidate:
        recipe = self.problem.space.recipe(self.records[int(row["trial"])].row)
        return self._candidate(recipe, row.to_dict())

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
        return self._candidate(found.recipe, evaluated(self.problem.evaluator, self.problem.space, found))

    def _candidate(self, recipe: Recipe, metrics: Mapping[str, Any]) -> Candidate:
        problem = self.problem
        return Candidate(recipe, metrics, problem.evaluator, problem.dense, problem.scale.error, self.factory)

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
    def plot(self, figure: str = "frontier", *, x: str = "flops") -> Figure:
        """Return a figure of the study.

        Parameters
        ----------
        figure
            ``frontier`` (error over a cost), ``hypervolume``, ``importance`` (of axes), ``ratios`` (on the frontier),
            ``rungs`` or ``sensitivity`` (measured now where it was not).
        x
            The cost of the frontier's figure, a key of `METRICS`.

        Raises
        ------
        PruningError
            If a name is unknown, or the study has nothing to show there.
        """
        problem = self.problem
        return study_figure(
            figure,
            self.trials,
            problem.space,
            problem.scale,
            x=x,
            dense=problem.dense,
            sensitivity=lambda: self.sensitivity,
            bounds=self.bounds,
        )

    def _repr_html_(self) -> str:
        return study_html(repr(self), self.frontier, self.problem.scale.error)
