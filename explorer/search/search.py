"""Search: ask -> evaluate -> tell over one Optuna study, which is all the state there is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna

from explorer.search.history import History, Known, Record
from explorer.search.jobs import Executor, Job, Result
from explorer.search.proposal import Proposal
from explorer.search.rungs import failed_rung, promotable
from explorer.search.samplers import Observations, Parameters, Past, RowSampler, make_sampler
from explorer.search.trials import Claim, Trials
from explorer.search.unseen import Unseen
from spaces import Budget, PruningError, PruningSpace

__all__ = ["Search"]

_STALE = 50
_HOPELESS = 5
_POLL = 0.2

Row = npt.NDArray[np.int16]


@dataclass(frozen=True)
class _Pending:
    """A recipe that was proposed and has no outcome yet, and when its evaluation began."""

    row: Row
    rung: int
    source: str
    begin: float

    def ended(self, outcome: str, **found: Any) -> Proposal:
        """Return the proposal with its outcome."""
        return Proposal(self.row, self.source, outcome, self.rung, **found)


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
        How many rungs there are. A recipe begins at the first; the most promising 1/`eta` of each are
        evaluated at the next.
    reference
        Of the hypervolume, one value an objective; all 1 by default.
    features
        From rows to numbers that are known without an evaluation, see `Past`.
    warm_start
        The observations of earlier studies of the network.
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
        sampler: Any,
        options: Mapping[str, Any],
        seed: int,
        ladder: Sequence[Row],
        ladder_source: str = "ladder",
        dense: Mapping[str, float],
        rungs: int = 1,
        eta: float = 3,
        reference: Sequence[float] | None = None,
        features: Callable[[Row], npt.NDArray[np.float64]] | None = None,
        warm_start: Observations | None = None,
        shared: bool = True,
    ) -> None:
        self.study = study
        self.space = space
        self.limits = space.constraints & budget
        self._executor = executor
        self._sampler, self._options = sampler, dict(options)
        self._ladder_source = ladder_source
        self._ladder = [row for row in ladder if space.inside(row[None], self.limits)[0]]
        self._rungs, self._eta = rungs, eta
        self._seed = seed
        # every proposal replaces in it what changed
        self._past = replace(
            Past.empty(space, self.limits, list(objectives), seed=seed),
            reference=list(reference or [1.0] * len(objectives)),
            rungs=rungs,
            features=features,
        )
        if warm_start is not None:
            self._past = replace(self._past, warm_start=warm_start)
        self._history = History(len(space.axes), objectives)
        self._unseen = Unseen(space, self.limits)
        self._trials = Trials(study, Parameters(space), shared=shared)
        self._pending: dict[int, _Pending] = {}
        # of evaluations, as the time of day
        self._deadline: float | None = None
        # claims of rungs above the first: those a trial has or had
        self._promoted: set[Claim] = set()
        if all(axis.can_be_dense for axis in space.axes):
            row = np.zeros(len(space.axes), dtype=np.int16)
            self._history.known[row.tobytes()] = Known("dense", self._history.values(dense, self._ratios(row)))
            self._unseen.take(row.tobytes())
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
            Minutes after which no further evaluation begins, and trainings end after the epoch in hand; that recipe is
            evaluated again by the search that continues this one.
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
            recipes are over the limit on the latency: the first fifty, or all there are.
        """
        deadline = None if timeout is None else time.monotonic() + 60 * timeout
        self._deadline = None if timeout is None else time.time() + 60 * timeout
        try:
            with self._trials.driven():
                ended = None
                while ended is None:
                    self._sync()
                    self._refuse_hopeless(_HOPELESS)
                    ended = self._advance(trials, deadline, on_record)
        finally:
            self._pending.clear()
        self._refuse_hopeless(1, 1 if ended == "exhausted" else _STALE)
        return ended

    def _advance(
        self, trials: int, deadline: float | None, on_record: Callable[[list[Record]], None] | None
    ) -> str | None:
        """Begin and end evaluations as there is room for; return why the search ended, if it did."""
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
                for _ in (result for _, result in done if not result.stopped):
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
        reason = self._history.hopeless(least, least_slow) or failed_rung(self.records, least)
        if reason is not None:
            raise PruningError(reason)

    def _sync(self) -> None:
        """Take in the proposals that other drivers finished."""
        for number, proposal in self._trials.sync():
            self._remember(number, proposal)

    def _remember(self, number: int, proposal: Proposal) -> bool:
        evaluated = self._history.remember(number, proposal)
        key = proposal.row.tobytes()
        if key in self._history.known:
            self._unseen.take(key)
        if evaluated and proposal.rung:
            self._promoted.add((key, proposal.rung))
        return evaluated

    def _claims(self) -> set[Claim]:
        return set(self._trials.running.values())

    def _begin(self, trials: int, over: bool) -> str | None:
        """Begin one evaluation, or tell a proposal that needs none; return why nothing further begins.

        Where time is `over` nothing begins, but it is told why, if there is nothing left to do.
        """
        claims = self._claims()
        promotion = promotable(self._known_to_sampler(), self._eta, self._promoted | {c for c in claims if c[1]})
        running = {key for key, rung in claims if not rung}
        if promotion is None and len(self._history) + len(running) >= trials:
            return "trials"
        if promotion is None and self._unseen.exhausted(running):
            return "exhausted"
        if over:
            return "timeout"
        if promotion is not None:
            self._evaluate(_Pending(*promotion, "promotion", time.perf_counter()))
            return None
        seen = {**self._history.known, **dict.fromkeys(running)}
        row: Row | None = next((row for row in self._ladder if row.tobytes() not in seen), None)
        source = "search" if row is None else self._ladder_source
        if row is None and self._history.stale >= _STALE:
            assert self._history.last is not None
            rng = np.random.default_rng([self._seed, len(self._history)])
            row, source = self._unseen.nearest(self._history.last, seen, rng), "nearest"
            if row is None:
                return "stuck"
        self._propose(trials, row, source)
        return None

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
            outside = pending.ended("OUTSIDE", excess={metric: float(value[0]) for metric, value in excess.items()})
            self._finish(self._trials.open(row, source, kept=kept), outside)
        elif known is not None:
            slow = {} if known.excess is None else {"latency": known.excess}
            repeated = pending.ended("DUPLICATE", values=known.values, excess=slow, duplicate_of=known.owner)
            self._finish(self._trials.open(row, source, kept=kept), repeated)
        else:
            self._evaluate(pending, trials, kept)

    def _known_to_sampler(self) -> Past:
        claimed = {key for key, _ in self._claims()}
        pending = sorted(claimed | self._history.below(self._rungs - 1))
        rows = [np.frombuffer(key, dtype=np.int16) for key in pending]
        return replace(
            self._past,
            seen=self._history.known.keys() | claimed,
            proposed=self._trials.count,
            observed=self._history.observed,
            pending=np.array(rows, dtype=np.int16).reshape(len(rows), len(self.space.axes)),
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
            self._finish(number, pending.ended("DUPLICATE", duplicate_of=owner))
            return
        if trials is not None:
            running = {key for key, rung in earlier.values() if not rung}
            if len(self._history) + len(running) >= trials:
                # another driver's was the last
                self._trials.abandon(number)
                return
        self._pending[number] = pending
        bar = self._history.bar(self._ratios(pending.row), pending.rung)
        self._executor.submit(Job(number, self.space.recipe(pending.row), pending.rung, bar, deadline=self._deadline))

    def _end(self, job: Job, result: Result) -> None:
        """Tell the outcome of an evaluation, if it has one."""
        pending = self._pending.pop(job.number)
        if result.stopped:
            self._trials.abandon(job.number)
        else:
            self._finish(job.number, self._outcome(pending, result))

    def _outcome(self, pending: _Pending, result: Result) -> Proposal:
        """Return the proposal that an evaluation's result makes of a pending one."""
        if result.excess is not None and not pending.rung:
            return pending.ended("OVER_LATENCY", excess={"latency": result.excess}, metrics=result.metrics)
        if result.excess is not None:
            return pending.ended("FAIL", reason=f"latency: {result.excess:.0%} over the budget")
        if result.reason is not None:
            return pending.ended("FAIL", reason=result.reason)
        values = self._history.values(result.metrics, self._ratios(pending.row))
        if not np.isfinite(values).all():
            measured = dict(zip(self._past.objectives, values, strict=True))
            return pending.ended("FAIL", reason=f"objectives {measured} are not finite")
        metrics = {"seconds": time.perf_counter() - pending.begin, **result.metrics}
        return pending.ended("COMPLETE", values=values, metrics=metrics)

    def _finish(self, number: int, proposal: Proposal) -> None:
        if self._trials.finish(number, proposal):
            self._remember(number, proposal)

    def _ratios(self, row: Row) -> dict[str, float]:
        """Return a row's costs relative to the dense network."""
        return {name: float(value[0]) / self.space.dense[name] for name, value in self.space.costs(row[None]).items()}
