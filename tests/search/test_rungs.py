"""Rungs, evaluations that overlap, and the bar of a race: what the search does besides one job after the other."""

from __future__ import annotations

import random
from dataclasses import replace

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import optuna
import pytest
from hypothesis import given

from explorer.analysis.tables import Scale, frontier_table, trials_table
from explorer.search.executors import Inline
from explorer.search.frontier import hypervolume, non_dominated
from explorer.search.jobs import Job, Result, attempt
from explorer.search.ladder import ladder_rows
from explorer.search.rungs import agreement, at_highest, best_first, doubt, promotable
from explorer.search.samplers import Observations, Past
from explorer.search.search import Search
from explorer.search.storage import journal, open_study
from spaces import Budget, PruningError, Recipe
from tests.support.synthetic import chain, space_of

OBJECTIVES = ["error", "flops"]
SPACE = space_of(chain([8] * 3 + [10]), (1, 0.75, 0.5, 0.25))


def error_of(job: Job) -> dict[str, float]:
    """Errors that fall with what is kept, and with the rung; the first unit needs training most."""
    kept = [job.recipe.ratios.get(f"l{i}", 1.0) for i in range(3)]
    error = 0.9 * (1 - float(np.dot(kept, [0.5, 0.3, 0.2])))
    return {"error": error * (1 - 0.3 * job.rung * kept[0]), "error_se": 0.01, "loss": float(job.rung)}


class Shuffled:
    """Works on several jobs at a time, which end in any order."""

    def __init__(self, evaluate, slots: int, seed: int = 0) -> None:
        self.slots = slots
        self.evaluate = evaluate
        self.jobs: list[Job] = []
        self.done: list[Job] = []
        self.rng = random.Random(seed)

    def submit(self, job: Job) -> None:
        assert len(self.jobs) < self.slots
        self.jobs.append(job)

    def wait(self, timeout: float | None = None) -> list[tuple[Job, Result]]:
        assert self.jobs
        ended = [self.jobs.pop(self.rng.randrange(len(self.jobs))) for _ in range(self.rng.randint(1, len(self.jobs)))]
        self.done += ended
        return [(job, attempt(self.evaluate, job)) for job in ended]

    def close(self) -> None:
        self.jobs.clear()


def make_search(executor, study=None, *, space=SPACE, sampler="tpe", rungs=1, ladder=4, budget=None, seed=0) -> Search:
    return Search(
        study or open_study(None, "test", OBJECTIVES),
        space,
        executor,
        objectives=OBJECTIVES,
        budget=Budget.parse(budget or {}),
        sampler=sampler,
        options={"multivariate": True} if sampler == "tpe" else {},
        seed=seed,
        ladder=ladder_rows(space, ladder),
        dense={"error": 0.0, "error_se": 0.0, "loss": 0.0},
        rungs=rungs,
        eta=3,
    )


@given(hnp.arrays(float, st.tuples(st.integers(0, 12), st.integers(1, 3)), elements=st.integers(0, 5).map(float)))
def test_the_best_come_first_front_by_front(values):
    order = best_first(values)
    assert sorted(order) == list(range(len(values)))
    if len(values):
        front = {tuple(point) for point in values[non_dominated(values)]}
        ranked = [tuple(values[i]) in front for i in order]
        assert ranked == sorted(ranked, reverse=True)


@pytest.mark.parametrize("slots", [1, 4])
def test_the_best_third_of_each_rung_is_promoted_and_every_value_kept(slots):
    executor = Shuffled(error_of, slots)
    search = make_search(executor, rungs=3)
    assert search.run(30) == "trials"
    records = search.records
    assert len(records) == 30
    at_least = [sum(record.rung >= rung for record in records) for rung in range(3)]
    assert at_least == [30, 10, 3]
    claims = [(job.recipe, job.rung) for job in executor.done]
    assert len(claims) == len(set(claims))
    for record in records:
        assert len(record.lower) == record.rung
        assert [metrics["loss"] for metrics in record.lower] == list(range(record.rung))
        assert record.metrics["loss"] == record.rung
        assert record.values[0] == record.metrics["error"]
    first = np.array([[*record.lower, record.metrics][0]["error"] for record in records])
    flops = np.array([record.values[1] for record in records])
    # the third that was promoted covers what all recipes would, had they been evaluated there
    second = np.array([error_of(Job(0, SPACE.recipe(record.row), 1))["error"] for record in records])
    points, promoted = np.column_stack([second, flops]), [record.rung >= 1 for record in records]
    assert hypervolume(points[promoted], [0.9, 1.0]) > 0.98 * hypervolume(points, [0.9, 1.0])
    table = trials_table(SPACE, records)
    assert table["rung"].tolist() == [record.rung for record in records]
    assert np.allclose(table["error_rung0"], first)
    assert table["error_rung1"].notna().tolist() == [record.rung >= 1 for record in records]
    found = agreement(records)
    assert {rungs: one.recipes for rungs, one in found.items()} == {"0-1": 10, "1-2": 3}
    assert all(-1 <= one.tau <= 1 for one in found.values())


def saturated(job: Job) -> dict[str, float]:
    """Errors that are those of chance at the first rung wherever much is removed, and fall far with training."""
    kept = [job.recipe.ratios.get(f"l{i}", 1.0) for i in range(5)]
    removed = float(np.dot(1 - np.array(kept), [0.5, 0.2, 1.0, 0.1, 0.2]))
    return {"error": 0.05 + (0.8 * (1 - np.exp(-8 * removed)) if not job.rung else 0.3 * removed), "error_se": 0.01}


@pytest.mark.parametrize("seed", [0, 1])
def test_proposals_of_the_sampler_reach_the_last_rung(seed):
    space = space_of(chain([8] * 5 + [10]), (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25))
    search = make_search(Inline(saturated), space=space, sampler="frontier", rungs=2, ladder=8, seed=seed)
    search.run(24)
    last = [record for record in search.records if record.rung == 1]
    assert len(last) == 8
    assert sum(record.source == "search" for record in last) >= 4
    scale = Scale(OBJECTIVES, {"error": 0.9})
    ladder = [record for record in last if record.source == "ladder"]
    assert scale.hypervolume(trials_table(space, last)) > scale.hypervolume(trials_table(space, ladder))


def test_where_nothing_is_measured_ranks_decide():
    rows = SPACE.sample(9, np.random.default_rng(0))
    costs = SPACE.costs(rows)
    values = np.column_stack([costs[name] / SPACE.dense[name] for name in ("flops", "params")])
    past = Past.empty(SPACE, Budget(), ["flops", "params"])
    seen = Observations(rows, values, np.full(9, np.nan), np.zeros(9, dtype=np.intp))
    claims: set = set()
    for place in best_first(values)[:3]:
        row, rung = promotable(replace(past, observed=seen, rungs=2), 3, claims)
        assert (row.tolist(), rung) == (rows[place].tolist(), 1)
        claims.add((row.tobytes(), 1))
    assert promotable(replace(past, observed=seen, rungs=2), 3, claims) is None


@pytest.mark.parametrize(("trials", "failed"), [(7, 2), (60, 5)])
def test_a_rung_at_which_all_fail_is_an_error_that_leaves_the_records(trials, failed):
    def evaluate(job: Job) -> dict[str, float]:
        if job.rung:
            raise MemoryError("too much")
        return error_of(job)

    search = make_search(Shuffled(evaluate, 1), rungs=2)
    message = f"rung 1: all of {failed} evaluations failed: MemoryError: too much"
    with pytest.raises(PruningError, match=f"^{message}$"):
        search.run(trials)
    assert sum(record.reason is not None for record in search.records) == failed
    assert all(record.state == "COMPLETE" and record.rung == 0 for record in search.records)
    with pytest.raises(PruningError, match=message):
        search.run(trials)


def test_a_failed_promotion_leaves_what_was_measured_and_is_not_tried_again():
    well: set[Recipe] = set()

    def evaluate(job: Job) -> dict[str, float]:
        if job.rung and len(well | {job.recipe}) > 1:
            raise MemoryError("too much")
        well.update([job.recipe] if job.rung else [])
        return error_of(job)

    executor = Shuffled(evaluate, 1)
    search = make_search(executor, rungs=2)
    search.run(12)
    promoted = [job for job in executor.done if job.rung]
    assert len(promoted) == len({job.recipe for job in promoted}) >= 4
    reasons = {record.reason for record in search.records}
    assert reasons == {None, "rung 1: MemoryError: too much"}
    assert {record.state for record in search.records} == {"COMPLETE"}


@pytest.mark.parametrize("stops", [[4], [2, 3, 9]])
def test_with_rungs_resumed_equals_uninterrupted(tmp_path, stops):
    def table(search: Search) -> list[object]:
        return [
            (r.row.tolist(), r.rung, {k: v for k, v in r.metrics.items() if k != "seconds"}) for r in search.records
        ]

    whole = make_search(Inline(error_of), rungs=2)
    whole.run(14)
    ended = 0

    def dying(job: Job) -> dict[str, float]:
        nonlocal ended
        ended += 1
        if ended in stops:
            raise KeyboardInterrupt
        return error_of(job)

    for _ in range(len(stops) + 1):
        study = open_study(journal(tmp_path / "study.journal"), "test", OBJECTIVES)
        part = make_search(Inline(dying), study, rungs=2)
        try:
            part.run(14)
        except KeyboardInterrupt:
            continue
    assert table(part) == table(whole)
    assert not study.get_trials(states=[optuna.trial.TrialState.RUNNING])


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "qmc", "exhaustive"])
def test_many_at_a_time_none_twice_and_exactly_as_many_as_asked(sampler):
    executor = Shuffled(error_of, 7)
    search = make_search(executor, sampler=sampler)
    assert search.run(40) == "trials"
    assert len(executor.done) == len({job.recipe for job in executor.done}) == len(search.records) == 40
    assert search.run(1000) == "exhausted"
    assert len(executor.done) == len({job.recipe for job in executor.done}) == 63


def test_the_bar_is_the_least_error_of_what_costs_no_more():
    executor = Shuffled(error_of, 1)
    search = make_search(executor, rungs=2)
    search.run(20)
    known: dict[int, list[tuple[float, float]]] = {0: [], 1: []}
    bars = 0
    for job in executor.done:
        flops = SPACE.costs(SPACE.row(job.recipe)[None])["flops"][0] / SPACE.dense["flops"]
        cheaper = [error for cost, error in known[job.rung] if cost <= flops]
        assert job.bar == (min(cheaper) if cheaper else None)
        bars += job.bar is not None
        known[job.rung].append((flops, error_of(job)["error"]))
    assert bars > 5


def test_the_hypervolume_on_the_way_is_that_of_the_table():
    scale, said = Scale(OBJECTIVES, {"error": 0.9}), []

    def say(records) -> None:
        volume = hypervolume([record.values for record in at_highest(records)], scale.reference)
        said.append((volume, scale.hypervolume(trials_table(SPACE, records))))

    make_search(Inline(error_of), rungs=3).run(30, on_record=say)
    assert all(ours == pytest.approx(theirs) for ours, theirs in said)
    assert len({ours for ours, _ in said}) > 3
    assert at_highest([]) == []


@pytest.mark.parametrize("rungs", [1, 2])
def test_the_frontier_holds_nothing_that_saw_a_part_of_the_inputs(rungs):
    """Those that win a race and are promoted become worse here, and leave what lost to them undominated."""

    def raced(job: Job) -> dict[str, float]:
        error = error_of(job)["error"]
        if job.rung:
            return {"error": 0.85, "validation_inputs": 1000}
        lost = job.bar is not None and error > job.bar
        return {"error": error, "validation_inputs": 100 if lost else 1000}

    search = make_search(Shuffled(raced, 1), rungs=rungs, sampler="random")
    search.run(40)
    trials, scale = trials_table(SPACE, search.records), Scale(OBJECTIVES, {"error": 0.9})
    whole = trials[trials["validation_inputs"] == 1000]
    front = frontier_table(trials, scale)
    assert (trials["validation_inputs"] < 1000).sum() > 10
    assert set(front["validation_inputs"]) == {1000}
    assert set(frontier_table(trials, scale, 0)["validation_inputs"]) == {1000}
    assert scale.hypervolume(trials) == scale.hypervolume(whole) > 0
    # with one rung alone it never did
    undominated = non_dominated(trials[scale.columns].to_numpy(dtype=float))
    partly = (trials["validation_inputs"][undominated] < 1000).any()
    assert partly == (rungs == 2)


@pytest.mark.parametrize(
    ("rungs", "eta", "needed"), [(1, 3, 1), (2, 3, 3), (3, 3, 9), (3, 1.5, 3), (2, 10, 10), (3, 2.5, 8)]
)
def test_too_few_trials_for_the_last_rung_are_doubted(rungs, eta, needed):
    assert doubt(needed, rungs, eta) is None
    count = needed
    for _ in range(rungs - 1):
        count = int(count / eta)
    assert count >= 1
    if needed > 1:
        said = f"of {needed - 1} trials none may reach the last of {rungs} rungs, which takes {needed} with eta {eta}"
        assert doubt(needed - 1, rungs, eta) == said
