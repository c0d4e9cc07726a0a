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
from optuna.trial import TrialState

from explorer.jobs import OverBudgetError
from explorer.metrics import OBJECTIVES
from explorer.samplers import Observations, Parameters, Past, make_sampler
from spaces import Budget, PruningError, PruningSpace, Recipe, sample_inside

__all__ = ["Record", "Search"]

_STALE = 50
_HOPELESS = 5
_ENUMERABLE = 200_000


@dataclass(frozen=True)
class _Known:
    """The outcome of a row: who has it, the values told (None: it failed), the excess of a measured latency."""

    owner: int | str
    values: Sequence[float] | None = None
    excess: float | None = None


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
        self._parameters = Parameters(space)
        self._feasible = self._enumerate()
        self._records: list[Record] = []
        self._seen: dict[bytes, _Known] = {}
        if all(axis.can_be_dense for axis in space.axes):
            row = np.zeros(len(space.axes), dtype=np.int16)
            self._seen[row.tobytes()] = _Known("dense", self._values(row, dense))
        self._proposed = self._stale = 0
        self._waiting = False
        self._left: int | None = None
        self._last: npt.NDArray[np.int16] | None = None
        self._recall()
        # unseen rows inside the limits, where they can be counted
        if self._feasible is not None:
            self._left = sum(row.tobytes() not in self._seen for row in self._feasible)

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
            ``trials``, ``timeout``, ``exhausted`` (no unseen recipe is inside the limits) or ``stuck`` (none was
            found, in a space too large to list).

        Raises
        ------
        PruningError
            If all evaluations fail: the first five, or fewer where there are no more.
        """
        begin = time.monotonic()
        ended = "trials"
        while len(self._records) < trials:
            self._refuse_hopeless(_HOPELESS)
            if timeout is not None and time.monotonic() - begin > 60 * timeout:
                ended = "timeout"
                break
            if self._left == 0:
                ended = "exhausted"
                break
            if not self._enqueue():
                ended = "stuck"
                break
            if self._step() and on_record is not None:
                on_record(self.records)
        self._refuse_hopeless(1)
        return ended

    def _refuse_hopeless(self, least: int) -> None:
        if len(self._records) >= least and all(record.state == "FAIL" for record in self._records):
            raise PruningError(f"all of {len(self._records)} evaluations failed: {self._records[-1].reason}")

    def _recall(self) -> None:
        """Rebuild what is known from the stored trials, and fail those that a dead driver left running."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING:
                self._waiting = True
            elif trial.state == TrialState.RUNNING and _is_dead(trial.user_attrs.get("driver")):
                if (proposal := trial.user_attrs.get("proposal")) is None:
                    self._abandon(trial.number)
                else:
                    # the outcome was written, only its telling was not
                    self._tell(trial.number, proposal)
            elif trial.state.is_finished() and not trial.user_attrs.get("interrupted"):
                self._remember(trial.number, trial.user_attrs["proposal"])

    def _abandon(self, number: int) -> None:
        """Fail a trial whose evaluation was interrupted; its recipe counts as never proposed."""
        trial = self.study.get_trials(deepcopy=False)[number]
        self.study._storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
        self.study.tell(number, state=TrialState.FAIL)

    def _tell(self, number: int, proposal: Mapping[str, Any]) -> bool:
        """Tell the study the outcome that was written, and take it into account."""
        self.study.tell(number, proposal["values"], state=TrialState[proposal["state"]])
        return self._remember(number, proposal)

    def _remember(self, number: int, proposal: Mapping[str, Any]) -> bool:
        """Take a finished proposal into account; tell whether it is an evaluated recipe."""
        row = np.array(proposal["row"], dtype=np.int16)
        self._proposed += 1
        self._last = row
        evaluated = proposal["outcome"] in ("COMPLETE", "FAIL")
        self._stale = 0 if evaluated else self._stale + 1
        if evaluated or proposal["outcome"] == "OVER_LATENCY":
            self._seen[row.tobytes()] = _Known(number, proposal["values"], proposal.get("excess"))
            if self._left is not None:
                self._left -= 1
        if evaluated:
            metrics, reason = proposal.get("metrics", {}), proposal.get("reason")
            outcome, source = proposal["outcome"], proposal["source"]
            self._records.append(Record(row, outcome, source, metrics, proposal["values"], reason))
        return evaluated

    def _enqueue(self) -> bool:
        """Queue what has to come before the sampler's own proposals; False where nothing is left to evaluate."""
        if self._waiting:
            return True
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
        self.study.enqueue_trial(self._parameters.of(row), user_attrs={"source": source})
        self._waiting = True

    def _step(self) -> bool:
        """Ask, evaluate and tell once; return whether a recipe was evaluated."""
        none = Observations.none(len(self.space.axes), len(self._objectives))
        past = Past(
            self.space,
            self.limits,
            self._seen.keys(),
            self._seed,
            self._proposed,
            self._objectives,
            [1.0] * len(self._objectives),
            none,
            none,
            none.rows,
        )
        self.study.sampler = make_sampler(self._sampler, past, self._options)
        trial = self.study.ask(self._parameters.distributions)
        trial.set_user_attr("driver", _driver())
        self._waiting = False
        row = self._parameters.row(trial.params)
        excess = self.limits.excess(self.space.costs(row[None]), self.space.dense) if self.limits else {}
        known = self._seen.get(row.tobytes())
        if any(value[0] > 0 for value in excess.values()):
            found: dict[str, Any] = {"outcome": "OUTSIDE", "state": "PRUNED", "values": None}
            for metric, value in excess.items():
                trial.set_constraint(metric, float(value[0]))
        elif known is not None:
            state = "COMPLETE" if known.values is not None else "FAIL" if known.excess is None else "PRUNED"
            found = {"outcome": "DUPLICATE", "duplicate_of": known.owner, "state": state, "values": known.values}
            if known.excess is not None:
                trial.set_constraint("latency", known.excess)
        else:
            try:
                found = self._outcome(row)
            except BaseException:
                # Ctrl-C and the like: said now, while this process still can
                self._abandon(trial.number)
                raise
            if "excess" in found:
                trial.set_constraint("latency", found["excess"])
        proposal = {"row": row.tolist(), "source": trial.user_attrs.get("source", "search"), **found}
        # one write: an outcome is either known completely, and told from it if need be, or was never reached
        trial.set_user_attr("proposal", proposal)
        return self._tell(trial.number, proposal)

    def _outcome(self, row: npt.NDArray[np.int16]) -> dict[str, Any]:
        """Evaluate a row and return what a proposal keeps of it."""
        begin = time.perf_counter()
        try:
            metrics = dict(self._evaluate(self.space.recipe(row)))
            values = self._values(row, metrics)
            if not np.isfinite(values).all():
                raise PruningError(f"objectives {dict(zip(self._objectives, values, strict=True))} are not finite")
        except OverBudgetError as over:
            return {"outcome": "OVER_LATENCY", "state": "PRUNED", "values": None, "excess": over.excess}
        except Exception as error:
            lines = str(error).splitlines() or [""]
            reason = lines[0] if isinstance(error, PruningError) else f"{type(error).__name__}: {lines[0]}"
            return {"outcome": "FAIL", "state": "FAIL", "values": None, "reason": reason}
        metrics["seconds"] = time.perf_counter() - begin
        return {"outcome": "COMPLETE", "state": "COMPLETE", "values": values, "metrics": metrics}

    def _values(self, row: npt.NDArray[np.int16], metrics: Mapping[str, float]) -> list[float]:
        costs = {name: float(value[0]) for name, value in self.space.costs(row[None]).items()}
        known = dict(metrics) | {f"{name}_ratio": value / self.space.dense[name] for name, value in costs.items()}
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
