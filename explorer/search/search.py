"""Search: ask -> evaluate -> tell over one Optuna study, which is all the state there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna

from explorer.search.history import History, Known, Record
from explorer.search.jobs import Executor, Job, Result
from explorer.search.rungs import failed_rung, promotable
from explorer.search.samplers import Observations, Parameters, Past, RowSampler, make_sampler
from explorer.search.trials import Claim, Trials
from explorer.search.unseen import Remaining
from spaces import Budget, PruningError, PruningSpace

__all__ = ["Search"]

_STALE = 50
_HOPELESS = 5
_POLL = 0.2

Row = npt.NDArray[np.int16]


@dataclass(frozen=True)
class _Pending:
    """An evaluation under way: what of, who proposed it, and since when."""

    row: Row
    rung: int
    source: str
    begin: float


class Search:
    """Explores a space until a number of recipes was evaluated.

    Several drivers may do so on one study at a time: none evaluates what another does, and what a dead one left is
    evaluated again.

    Parameters
    ----------
    study
        A multi-objective Optuna study, new or with trials of the same search. It is the only state: a search
        that is killed continues from what the study's storage holds.
    space
        The recipes.
    executor
        Evaluates them.
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
    rungs, eta
        How many rungs there are. A recipe begins at the first; the best 1/`eta` of each are evaluated at the next.
    reference
        Of the hypervolume, one value an objective; all 1 by default.
    features
        What is known of recipes without an evaluation, see `Past`.
    earlier
        What earlier studies of the network measured.
    shared
        Whether other drivers may work on the study.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: PruningSpace,
        executor: Executor,
        *,
        objectives: Sequence[str],
        budget: Budget,
        sampler: str,
        options: Mapping[str, Any],
        seed: int,
        ladder: Sequence[Row],
        dense: Mapping[str, float],
        rungs: int = 1,
        eta: float = 3,
        reference: Sequence[float] | None = None,
        features: Callable[[Row], npt.NDArray[np.float64]] | None = None,
        earlier: Observations | None = None,
        shared: bool = True,
    ) -> None:
        self.study = study
        self.space = space
        self.limits = space.constraints & budget
        self._executor = executor
        self._sampler, self._options = sampler, dict(options)
        self._ladder = [row for row in ladder if self.limits.inside(space, row[None])[0]]
        self._rungs, self._eta = rungs, eta
        self._seed = seed
        none = Observations.none(len(space.axes), len(objectives))
        # all that of it changes is replaced for every proposal
        self._past = {
            "objectives": list(objectives),
            "reference": list(reference or [1.0] * len(objectives)),
            "earlier": none if earlier is None else earlier,
            "rungs": rungs,
            "features": features,
            "memo": {},
        }
        self._history = History(len(space.axes), objectives)
        self._remaining = Remaining(space, self.limits)
        self._trials = Trials(study, Parameters(space), shared=shared)
        self._pending: dict[int, _Pending] = {}
        # claims of rungs above the first: those a trial has or had
        self._promoted: set[Claim] = set()
        if all(axis.can_be_dense for axis in space.axes):
            row = np.zeros(len(space.axes), dtype=np.int16)
            self._history.known[row.tobytes()] = Known("dense", self._history.values(dense, self._ratios(row)))
            self._remaining.take(row.tobytes())
        self._sync()

    @property
    def records(self) -> list[Record]:
        """The evaluated recipes so far, in order."""
        return self._history.records

    def run(
        self, trials: int, *, timeout: float | None = None, on_record: Callable[[list[Record]], None] | None = None
    ) -> str:
        """Evaluate until `trials` recipes are recorded, and those promoted at every rung, and return why it ended.

        Parameters
        ----------
        trials
            Recorded recipes, those of earlier runs and of other drivers included.
        timeout
            Minutes after which no further evaluation begins.
        on_record
            Called with all records after each evaluation.

        Returns
        -------
        str
            ``trials``, ``timeout``, ``exhausted`` (no unseen recipe is inside the limits) or ``stuck`` (none was
            found, in a space too large to list).

        Raises
        ------
        PruningError
            If all evaluations fail, or all of a further rung: the first five, or fewer where there are no more. If all
            recipes are over the limit
            on the latency: the first fifty, or all there are.
        """
        deadline = None if timeout is None else time.monotonic() + 60 * timeout
        try:
            with self._trials.driven():
                ended = None
                while ended is None:
                    self._sync()
                    self._refuse_hopeless(_HOPELESS)
                    self._refuse_failed_rung(_HOPELESS)
                    ended = self._advance(trials, deadline, on_record)
        finally:
            self._pending.clear()
        self._refuse_hopeless(1, 1 if ended == "exhausted" else _STALE)
        self._refuse_failed_rung(1)
        return ended

    def _refuse_failed_rung(self, least: int) -> None:
        """Raise if so many evaluations at a further rung failed and none did not."""
        if (sentence := failed_rung(self.records, least)) is not None:
            raise PruningError(sentence)

    def _advance(
        self, trials: int, deadline: float | None, on_record: Callable[[list[Record]], None] | None
    ) -> str | None:
        """Begin what there is room for and take in what ends; return why nothing is left to do, if so."""
        ended, over = None, False
        while ended is None and len(self._pending) < self._executor.slots:
            over = deadline is not None and time.monotonic() > deadline
            ended = self._begin(trials, over)
        if self._pending:
            done = self._executor.wait()
            for job, result in done:
                self._end(job, result)
            # what is shown may raise or be interrupted, and all results are kept by then
            if on_record is not None:
                for _ in done:
                    on_record(self.records)
            return None
        if self._trials.running:
            # other drivers may die and leave something to do
            if over:
                return "timeout"
            time.sleep(_POLL)
            return None
        return ended

    def _refuse_hopeless(self, least: int, least_slow: int = _STALE) -> None:
        """Raise if so many evaluations, or latencies, came to nothing and none to anything."""
        if (reason := self._history.hopeless(least)) is not None:
            raise PruningError(f"all of {len(self._history)} evaluations failed: {reason}")
        if not len(self._history) and len(slow := self._history.too_slow) >= least_slow:
            raise PruningError(
                f"budget: the latency of all {len(slow)} recipes that were measured is over it, "
                f"by {min(slow):.0%} at the least"
            )

    def _sync(self) -> None:
        """Take in what other drivers did."""
        for number, proposal in self._trials.sync():
            self._remember(number, proposal)

    def _remember(self, number: int, proposal: Mapping[str, Any]) -> bool:
        evaluated = self._history.remember(number, proposal)
        key = np.array(proposal["row"], dtype=np.int16).tobytes()
        if key in self._history.known:
            self._remaining.take(key)
        if evaluated and proposal.get("rung", 0):
            self._promoted.add((key, proposal["rung"]))
        return evaluated

    def _claims(self) -> set[Claim]:
        return set(self._trials.running.values())

    def _begin(self, trials: int, over: bool) -> str | None:
        """Begin one evaluation, or tell a proposal that needs none; return why nothing further begins.

        Where time is `over` nothing begins, but it is told why, if there is nothing left to do.
        """
        claims = self._claims()
        promotions = self._promotions(claims)
        running = {key for key, rung in claims if not rung}
        if not promotions and len(self._history) + len(running) >= trials:
            return "trials"
        if not promotions and self._remaining.exhausted(running):
            return "exhausted"
        if over:
            return "timeout"
        if promotions:
            best, rung = promotions[0]
            self._evaluate(_Pending(best, rung, "promotion", time.perf_counter()))
            return None
        seen = {**self._history.known, **dict.fromkeys(running)}
        row: Row | None = next((row for row in self._ladder if row.tobytes() not in seen), None)
        source = "search" if row is None else "ladder"
        if row is None and self._history.stale >= _STALE:
            assert self._history.last is not None
            rng = np.random.default_rng([self._seed, len(self._history)])
            row, source = self._remaining.nearest(self._history.last, seen, rng), "nearest"
            if row is None:
                return "stuck"
        self._propose(trials, row, source)
        return None

    def _promotions(self, claims: set[Claim]) -> list[tuple[Row, int]]:
        """Return what may be evaluated at a further rung, at the highest first."""
        observed = self._history.observed
        found = []
        for rung in reversed(range(self._rungs - 1)):
            for place in promotable(observed, rung, self._eta):
                claim = observed.rows[place].tobytes(), rung + 1
                if claim not in self._promoted and claim not in claims:
                    found.append((observed.rows[place], rung + 1))
        return found

    def _propose(self, trials: int, fixed: Row | None, source: str) -> None:
        """Ask the sampler for a recipe and begin its evaluation if it needs one; or begin that of a `fixed` one."""
        sampler = make_sampler(self._sampler, self._known_to_sampler(), self._options)
        row, kept = fixed, dict[str, Any]()
        if fixed is None or not isinstance(sampler, RowSampler):
            # Optuna's are asked in any case: some, such as NSGA-II, count only trials that they were asked for
            proposed, kept = self._trials.propose(sampler)
            row = proposed if fixed is None else fixed
        assert row is not None
        pending = _Pending(row, 0, source, time.perf_counter())
        excess = self.limits.excess(self.space.costs(row[None]), self.space.dense) if self.limits else {}
        known = self._history.known.get(row.tobytes())
        if any(value[0] > 0 for value in excess.values()):
            outside = {"outcome": "OUTSIDE", "state": "PRUNED", "values": None}
            number = self._trials.open(row, source, kept=kept)
            self._finish(number, pending, outside, {metric: float(value[0]) for metric, value in excess.items()})
        elif known is not None:
            state = "COMPLETE" if known.values is not None else "FAIL" if known.excess is None else "PRUNED"
            found = {"outcome": "DUPLICATE", "duplicate_of": known.owner, "state": state, "values": known.values}
            number = self._trials.open(row, source, kept=kept)
            self._finish(number, pending, found, {} if known.excess is None else {"latency": known.excess})
        else:
            self._evaluate(pending, trials, kept)

    def _known_to_sampler(self) -> Past:
        claimed = {key for key, _ in self._claims()}
        pending = sorted(claimed | self._history.below(self._rungs - 1))
        rows = [np.frombuffer(key, dtype=np.int16) for key in pending]
        return Past(
            self.space,
            self.limits,
            self._history.known.keys() | claimed,
            self._seed,
            self._trials.count,
            observed=self._history.observed,
            pending=np.array(rows, dtype=np.int16).reshape(len(rows), len(self.space.axes)),
            **self._past,  # type: ignore[arg-type]
        )

    def _evaluate(self, pending: _Pending, trials: int | None = None, kept: Mapping[str, Any] | None = None) -> None:
        """Submit an evaluation, unless an earlier trial has the same claim or makes `trials` complete."""
        number = self._trials.open(pending.row, pending.source, pending.rung, kept)
        self._sync()
        claim = pending.row.tobytes(), pending.rung
        earlier = {other: theirs for other, theirs in self._trials.running.items() if other < number}
        rival = next((other for other, theirs in earlier.items() if theirs == claim), None)
        known = self._history.known.get(claim[0]) if not pending.rung else None
        if rival is not None or known is not None or claim in self._promoted:
            # another driver was faster
            owner = rival if known is None else known.owner
            found = {"outcome": "DUPLICATE", "duplicate_of": owner, "state": "FAIL", "values": None}
            self._finish(number, pending, found, {})
            return
        if trials is not None:
            running = {key for key, rung in earlier.values() if not rung}
            if len(self._history) + len(running) >= trials:
                # another driver's was the last
                self._trials.abandon(number)
                return
        self._pending[number] = pending
        bar = self._history.bar(self._ratios(pending.row), pending.rung)
        self._executor.submit(Job(number, self.space.recipe(pending.row), pending.rung, bar))

    def _end(self, job: Job, result: Result) -> None:
        """Tell what came of an evaluation."""
        pending = self._pending.pop(job.number)
        if result.excess is not None and not pending.rung:
            slow = {"outcome": "OVER_LATENCY", "state": "PRUNED", "values": None, "excess": result.excess}
            self._finish(job.number, pending, slow, {"latency": result.excess})
            return
        reason = result.reason
        if result.excess is not None:
            reason = f"latency: {result.excess:.0%} over the budget"
        if reason is None:
            values = self._history.values(result.metrics, self._ratios(pending.row))
            if np.isfinite(values).all():
                metrics = {"seconds": time.perf_counter() - pending.begin, **result.metrics}
                found: dict[str, Any] = {
                    "outcome": "COMPLETE",
                    "state": "COMPLETE",
                    "values": values,
                    "metrics": metrics,
                }
                self._finish(job.number, pending, found, {})
                return
            objectives = self._past["objectives"]
            reason = f"objectives {dict(zip(objectives, values, strict=True))} are not finite"  # type: ignore[call-overload]
        self._finish(job.number, pending, {"outcome": "FAIL", "state": "FAIL", "values": None, "reason": reason}, {})

    def _finish(self, number: int, pending: _Pending, found: Mapping[str, Any], excess: Mapping[str, float]) -> None:
        proposal = {"row": pending.row.tolist(), "rung": pending.rung, "source": pending.source, **found}
        if self._trials.finish(number, proposal, excess):
            self._remember(number, proposal)

    def _ratios(self, row: Row) -> dict[str, float]:
        """Return a row's costs relative to the dense network."""
        return {name: float(value[0]) / self.space.dense[name] for name, value in self.space.costs(row[None]).items()}
