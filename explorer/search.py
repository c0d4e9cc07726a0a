"""Search: ask -> evaluate -> tell over one Optuna study, which is all the state there is."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from explorer.evaluation import OverBudgetError
from explorer.metrics import OBJECTIVES
from explorer.samplers import Past, make_sampler
from spaces import Budget, PruningError, PruningSpace, Recipe, dense_costs, sample_inside

__all__ = ["Record", "Search"]

_STALE = 50
_HOPELESS = 5
_ENUMERABLE = 200_000


@dataclass(frozen=True)
class Record:
    """One evaluated recipe, or one whose evaluation failed.

    `source` says who proposed it: the ``ladder`` of uniform ratios, the sampler (``search``), or ``nearest``
    after a sampler repeated itself. `values` are the objectives' values, None where the evaluation failed.
    """

    row: npt.NDArray[np.int16]
    state: str
    source: str
    metrics: Mapping[str, float]
    values: Sequence[float] | None = None
    reason: str | None = None


class Search:
    """Explores a space until a number of recipes was evaluated.

    Parameters
    ----------
    study
        A multi-objective Optuna study, new or with trials of the same search. It is the only state: a search
        that is killed continues from what the study's storage holds.
    space
        The recipes.
    evaluate
        Measures one recipe; what it raises fails that trial.
    objectives
        Keys of `OBJECTIVES`, one for each of the study's directions.
    budget
        Costs that recipes must respect, besides the space's constraints; outside, nothing is evaluated.
    sampler, options
        A key of `SAMPLERS` and its options.
    seed
        Of the sampler.
    ladder
        Rows evaluated first, whatever the sampler.
    dense
        The dense network's metrics, known without an evaluation.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: PruningSpace,
        evaluate: Callable[[Recipe], Mapping[str, float]],
        *,
        objectives: Sequence[str],
        budget: Budget,
        sampler: str,
        options: Mapping[str, Any],
        seed: int,
        ladder: Sequence[npt.NDArray[np.int16]],
        dense: Mapping[str, float],
    ) -> None:
        self.study = study
        self.space = space
        self.limits = space.constraints & budget
        self._evaluate = evaluate
        self._objectives = list(objectives)
        self._sampler, self._options, self._seed = sampler, dict(options), seed
        self._ladder = [row for row in ladder if self.limits.inside(space, row[None])[0]]
        self._distributions: dict[str, BaseDistribution] = {
            axis.unit: optuna.distributions.IntDistribution(0, len(axis.kept) - 1) for axis in space.axes
        }
        self._dense_costs = dense_costs(space.network)
        self._feasible = self._enumerate()
        self._records: list[Record] = []
        # every row with a known outcome: the values told, and who has them; values None: it failed
        self._seen: dict[bytes, tuple[list[float] | None, int | str]] = {}
        if all(axis.kept[0] == axis.steps for axis in space.axes) and "latency" not in objectives:
            row = np.zeros(len(space.axes), dtype=np.int16)
            self._seen[row.tobytes()] = (self._values(row, dense), "dense")
        self._proposed = self._stale = 0
        self._waiting = False
        self._last: npt.NDArray[np.int16] | None = None
        self._recall()

    @property
    def records(self) -> list[Record]:
        """The evaluated recipes so far, in order."""
        return list(self._records)

    def run(
        self, trials: int, *, timeout: float | None = None, on_record: Callable[[list[Record]], None] | None = None
    ) -> str:
        """Evaluate until `trials` recipes are recorded and return why it ended.

        Parameters
        ----------
        trials
            Recorded recipes, those of earlier runs included.
        timeout
            Minutes after which no further evaluation begins.
        on_record
            Called with all records after each new one.

        Returns
        -------
        str
            ``trials``, ``timeout`` or ``exhausted`` (no unseen recipe is inside the limits).

        Raises
        ------
        PruningError
            If the first few evaluations all fail.
        """
        begin = time.monotonic()
        while len(self._records) < trials:
            if timeout is not None and time.monotonic() - begin > 60 * timeout:
                return "timeout"
            if not self._enqueue():
                return "exhausted"
            if self._step() and on_record is not None:
                on_record(self.records)
            if len(self._records) >= _HOPELESS and all(record.state == "FAIL" for record in self._records):
                raise PruningError(f"all of {len(self._records)} evaluations failed: {self._records[-1].reason}")
        return "trials"

    def _recall(self) -> None:
        """Rebuild what is known from the stored trials, and fail those that a dead driver left running."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                self._waiting = True
            elif trial.state == TrialState.RUNNING and _is_dead(trial.user_attrs.get("driver")):
                self._abandon(trial.number)
            elif trial.state.is_finished() and not trial.user_attrs.get("interrupted"):
                self._remember(trial.number, trial.user_attrs["proposal"], trial.values)

    def _abandon(self, number: int) -> None:
        """Fail a trial whose evaluation was interrupted; its recipe counts as never proposed."""
        trial = self.study.get_trials(deepcopy=False)[number]
        self.study._storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
        self.study.tell(number, state=TrialState.FAIL)

    def _remember(self, number: int, proposal: Mapping[str, Any], values: Sequence[float] | None) -> bool:
        """Take a finished proposal into account; tell whether it is an evaluated recipe."""
        row = np.array(proposal["row"], dtype=np.int16)
        self._proposed += 1
        self._last = row
        outcome = proposal["outcome"]
        if outcome in ("COMPLETE", "FAIL"):
            self._stale = 0
            self._seen[row.tobytes()] = (list(values) if values else None, number)
            metrics, reason = proposal.get("metrics", {}), proposal.get("reason")
            self._records.append(Record(row, outcome, proposal["source"], metrics, values, reason))
            return True
        self._stale += 1
        if outcome == "OVER_LATENCY":
            self._seen[row.tobytes()] = (None, number)
        return False

    def _enqueue(self) -> bool:
        """Queue what has to come before the sampler's own proposals; False where nothing is left to evaluate."""
        if self._waiting:
            return True
        if self._feasible is not None and all(row.tobytes() in self._seen for row in self._feasible):
            return False
        rung = next((row for row in self._ladder if row.tobytes() not in self._seen), None)
        if rung is not None:
            self._queue(rung, "ladder")
        elif self._stale >= _STALE:
            nearest = self._nearest_unseen()
            if nearest is None:
                return False
            self._queue(nearest, "nearest")
        return True

    def _queue(self, row: npt.NDArray[np.int16], source: str) -> None:
        params = dict(zip(self._distributions, row.tolist(), strict=True))
        self.study.enqueue_trial(params, user_attrs={"source": source})
        self._waiting = True

    def _step(self) -> bool:
        """Ask, evaluate and tell once; return whether a recipe was evaluated."""
        past = Past(self.space, self.limits, self._seen.keys(), self._seed, self._proposed)
        self.study.sampler = make_sampler(self._sampler, past, self._options)
        trial = self.study.ask(self._distributions)
        self._waiting = False
        row = np.array([trial.params[axis.unit] for axis in self.space.axes], dtype=np.int16)
        proposal: dict[str, Any] = {"row": row.tolist(), "source": trial.user_attrs.get("source", "search")}
        excess = self.limits.excess(self.space.network, self.space.costs(row[None]))
        known = self._seen.get(row.tobytes())
        values: list[float] | None = None
        if any(value[0] > 0 for value in excess.values()):
            state, proposal["outcome"] = TrialState.PRUNED, "OUTSIDE"
            for metric, value in excess.items():
                trial.set_constraint(metric, float(value[0]))
        elif known is not None:
            values = known[0]
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            proposal |= {"outcome": "DUPLICATE", "duplicate_of": known[1]}
        else:
            trial.set_user_attr("driver", _driver())
            try:
                state, values, found = self._outcome(row)
            except BaseException:
                # Ctrl-C and the like: said now, while this process still can
                self._abandon(trial.number)
                raise
            if "excess" in found:
                trial.set_constraint("latency", found["excess"])
            proposal |= found
        # one write: a proposal is either known completely or was never made
        trial.set_user_attr("proposal", proposal)
        self.study.tell(trial, values, state=state)
        return self._remember(trial.number, proposal, values)

    def _outcome(self, row: npt.NDArray[np.int16]) -> tuple[TrialState, list[float] | None, dict[str, Any]]:
        begin = time.perf_counter()
        try:
            metrics = dict(self._evaluate(self.space.recipe(row)))
            values = self._values(row, metrics)
            if not np.isfinite(values).all():
                raise PruningError(f"objectives {dict(zip(self._objectives, values, strict=True))} are not finite")
        except OverBudgetError as over:
            return TrialState.PRUNED, None, {"outcome": "OVER_LATENCY", "excess": over.excess}
        except Exception as error:
            lines = str(error).splitlines() or [""]
            reason = lines[0] if isinstance(error, PruningError) else f"{type(error).__name__}: {lines[0]}"
            return TrialState.FAIL, None, {"outcome": "FAIL", "reason": reason}
        metrics["seconds"] = time.perf_counter() - begin
        return TrialState.COMPLETE, values, {"outcome": "COMPLETE", "metrics": metrics}

    def _values(self, row: npt.NDArray[np.int16], metrics: Mapping[str, float]) -> list[float]:
        costs = {name: float(value[0]) for name, value in self.space.costs(row[None]).items()}
        known = dict(metrics) | {f"{name}_ratio": value / self._dense_costs[name] for name, value in costs.items()}
        return [float(known[OBJECTIVES[objective]]) for objective in self._objectives]

    def _enumerate(self) -> npt.NDArray[np.int16] | None:
        """Return all rows inside the limits of a space that is small enough to list."""
        if self.space.size > _ENUMERABLE:
            return None
        rows = self.space.rows(0, self.space.size)
        return rows[self.limits.inside(self.space, rows)]

    def _nearest_unseen(self) -> npt.NDArray[np.int16] | None:
        """Return the unseen row inside the limits with the fewest steps from the last proposal."""
        assert self._last is not None
        if self._feasible is not None:
            candidates = self._feasible
        else:
            rng = np.random.default_rng([self._seed, self._proposed])
            near = self.space.neighbours(self._last)
            further = np.concatenate([near, *(self.space.neighbours(row) for row in near)])
            try:
                drawn = sample_inside(self.space, 256, rng, budget=self.limits, max_draws=1 << 20).rows
            except PruningError:
                drawn = further[:0]
            candidates = np.concatenate([further[self.limits.inside(self.space, further)], drawn])
        unseen = np.array([row.tobytes() not in self._seen for row in candidates], dtype=bool)
        if not unseen.any():
            return None
        distance = np.abs(candidates[unseen].astype(int) - self._last).sum(1)
        return candidates[unseen][distance.argmin()]


def _driver() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_dead(driver: str | None) -> bool:
    """Tell whether a running trial's driver is gone: it never said who it is, or its process is not there."""
    if driver is None:
        return True
    host, _, pid = driver.rpartition(":")
    if host != socket.gethostname():
        return False
    if int(pid) == os.getpid():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
