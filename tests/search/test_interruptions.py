"""Searches that die at each single write, that others hold for dead, or that share a study with strangers."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import optuna
import pytest
from optuna.storages import InMemoryStorage

from explorer.search.history import History
from explorer.search.jobs import Job, Result, attempt
from explorer.search.ladder import ladder_rows
from explorer.search.proposal import Proposal
from explorer.search.search import Search
from explorer.search.storage import open_study
from spaces import Budget
from tests.support.synthetic import chain, space_of

OBJECTIVES = ["error", "flops"]
SPACE = space_of(chain([8] * 3 + [10]), (1, 0.75, 0.5, 0.25))
WRITES = (
    "create_new_trial",
    "set_study_system_attr",
    "set_trial_state_values",
    "set_trial_system_attr",
    "set_trial_user_attr",
)


def error_of(job: Job) -> dict[str, float]:
    kept = [job.recipe.ratios.get(f"l{i}", 1.0) for i in range(3)]
    return {"error": 0.9 * (1 - float(np.dot(kept, [0.5, 0.3, 0.2]))) * (1 - 0.3 * job.rung * kept[0])}


class Counting:
    """Evaluates one job after the other, and counts how often each is."""

    def __init__(self, slots: int = 1, evaluate=error_of) -> None:
        self.slots, self.evaluate = slots, evaluate
        self.jobs: list[Job] = []
        self.done: Counter = Counter()

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def wait(self, timeout: float | None = None) -> list[tuple[Job, Result]]:
        job = self.jobs.pop(0)
        self.done[job.recipe, job.rung] += 1
        return [(job, attempt(self.evaluate, job))]

    def close(self) -> None:
        self.jobs.clear()


def make_search(executor, storage=None, *, sampler="random", rungs=1, shared=True, budget=None) -> Search:
    return Search(
        open_study(storage or InMemoryStorage(), "test", OBJECTIVES),
        SPACE,
        executor,
        objectives=OBJECTIVES,
        budget=Budget.parse(budget or {}),
        sampler=sampler,
        options={},
        seed=0,
        ladder=ladder_rows(SPACE, 3),
        dense={"error": 0.0},
        rungs=rungs,
        shared=shared,
    )


def table(search: Search) -> list[object]:
    return [(r.row.tolist(), r.state, r.rung, r.values, r.source) for r in search.records]


class Killed(BaseException):
    """Neither an error nor anything that is caught."""


class Dying:
    """Ends the process, so to say, at the n-th write to a storage: before it or after it, and from then on always."""

    def __init__(self, storage: InMemoryStorage, at: int, *, written: bool, for_good: bool) -> None:
        self.storage, self.at, self.written, self.for_good = storage, at, written, for_good
        self.writes = 0

    def __enter__(self) -> Dying:
        for name in WRITES:
            setattr(self.storage, name, self._dying(getattr(self.storage, name)))
        return self

    def __exit__(self, *error: object) -> bool:
        for name in WRITES:
            delattr(self.storage, name)
        return error[0] is Killed

    def _dying(self, method):
        def call(*arguments, **options):
            self.writes += 1
            if self.writes > self.at and self.for_good:
                raise Killed
            if self.writes != self.at:
                return method(*arguments, **options)
            if self.written:
                method(*arguments, **options)
            raise Killed

        return call


@pytest.mark.parametrize(("written", "for_good"), list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize(("rungs", "slots", "shared"), [(1, 1, False), (3, 1, True), (2, 3, True)])
def test_dying_at_any_write_loses_nothing_and_repeats_nothing_that_was_written(rungs, slots, shared, written, for_good):
    trials, options = 6, {"rungs": rungs, "shared": shared, "budget": {"flops": 0.8}}
    whole = make_search(Counting(slots), **options)
    whole.run(trials)
    for at in itertools.count(1):
        storage, executor = InMemoryStorage(), Counting(slots)
        open_study(storage, "test", OBJECTIVES)
        with Dying(storage, at, written=written, for_good=for_good) as dying:
            make_search(executor, storage, **options).run(trials)
        executor.close()
        search = make_search(executor, storage, **options)
        search.run(trials)
        assert all(trial.state.is_finished() for trial in search.study.get_trials())
        assert len(search.records) == trials
        if slots == 1:
            assert table(search) == table(whole)
        # what was evaluated and not written has to be again
        assert sum(executor.done.values()) - len(executor.done) <= (0 if written and slots == 1 else slots)
        if dying.writes < at:
            break
    assert at > 4 * trials


@pytest.mark.parametrize("again", [False, True])
def test_a_search_that_was_held_for_dead_goes_on_and_the_recipe_is_evaluated_again(again):
    storage = InMemoryStorage()
    study = open_study(storage, "test", OBJECTIVES)
    calls = itertools.count(1)

    def evaluate(job: Job) -> dict[str, float]:
        if next(calls) == 3:
            # what another driver does that could not see this one live
            storage.set_trial_user_attr(study.trials[job.number]._trial_id, "interrupted", True)
            study.tell(job.number, state=optuna.trial.TrialState.FAIL)
        return error_of(job)

    executor, whole = Counting(evaluate=evaluate), make_search(Counting())
    search = make_search(executor, storage)
    search.run(8)
    whole.run(8)
    if again:
        search = make_search(executor, storage)
    assert table(search) == table(whole)
    assert sorted(executor.done.values()) == [1] * 7 + [2]


def test_what_is_evaluated_twice_or_promoted_from_nothing_counts_once_or_not():
    """A driver that is held for dead while it writes goes on from what no other driver knows."""
    row = np.array([1, 1, 1], dtype=np.int16)
    first, second = (
        Proposal(row, "search", "COMPLETE", rung, values) for rung, values in enumerate([[0.5, 0.5], [0.4, 0.5]])
    )
    history = History(3, OBJECTIVES)
    assert not history.remember(3, second)
    assert history.remember(4, first)
    assert not history.remember(5, first)
    assert history.remember(6, second)
    (record,) = history.records
    assert (record.number, record.rung, record.values) == (4, 1, [0.4, 0.5])
    assert history.observed.rungs.tolist() == [0, 1]


def test_trials_of_strangers_are_left_alone_and_count_for_nothing():
    storage = InMemoryStorage()
    study = open_study(storage, "test", OBJECTIVES)
    study.enqueue_trial({"channels.l0": 1})
    study.add_trial(optuna.trial.create_trial(values=[0.1, 0.1]))
    running = storage.create_new_trial(study._study_id)
    search, whole = make_search(Counting(), storage), make_search(Counting())
    for trials in (4, 8):
        search.run(trials)
    whole.run(8)
    assert len(search.records) == 8
    assert [record.row.tolist() for record in search.records][:2] == [r.row.tolist() for r in whole.records][:2]
    assert [t.number for t in study.get_trials() if not t.state.is_finished()] == [0, running]
    assert len({record.number for record in search.records} & {0, 1, 2}) == 0


def test_at_the_timeout_promotions_are_left_and_made_by_the_next_run():
    storage, whole = InMemoryStorage(), make_search(Counting(), rungs=2)
    whole.run(9)
    assert any(record.rung for record in whole.records)

    class Late(Counting):
        def wait(self, timeout=None):
            done = super().wait(timeout)
            if sum(self.done.values()) == 9:
                clock[0] = 1e9
            return done

    clock = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explorer.search.search.time.monotonic", lambda: clock[0])
        first = make_search(Late(), storage, rungs=2)
        assert first.run(9, timeout=1) == "timeout"
        # nothing is left to do: that is why it ended, whatever the clock says
        second = make_search(Late(), storage, rungs=2)
        assert second.run(9) == "trials"
        assert second.run(9, timeout=-1) == "trials"
    assert table(second) == table(whole)
