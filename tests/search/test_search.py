"""The search's rules: what is evaluated, what never is, and that stored trials are all its state."""

from __future__ import annotations

import itertools
import json

import numpy as np
import optuna
import pytest

from explorer.search.executors import Inline
from explorer.search.jobs import Job, OutOfTimeError, OverBudgetError
from explorer.search.ladder import ladder_rows
from explorer.search.proposal import Proposal
from explorer.search.search import Search
from explorer.search.storage import journal, open_study
from spaces import Budget, PruningError, PruningSpace, Recipe
from tests.support.synthetic import chain, space_of

OBJECTIVES = ["error", "flops"]
SAMPLERS = ["exhaustive", "frontier", "gp", "nsga2", "qmc", "random", "tpe"]


def make_space(units: int = 3, ratios: tuple[float, ...] = (1, 0.75, 0.5, 0.25)) -> PruningSpace:
    return space_of(chain([8] * units + [10]), ratios)


class Evaluate:
    """A stand-in for an evaluator: error falls with the ratios kept; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Recipe] = []

    def __call__(self, job: Job) -> dict[str, float]:
        recipe = job.recipe
        self.asked.append(recipe)
        kept = [recipe.ratios.get(f"l{i}", 1.0) for i in range(3)]
        return {"error": 0.9 * (1 - float(np.dot(kept, [0.5, 0.3, 0.2]))), "error_se": 0.01, "loss": 1.0}


def make_search(evaluate, space=None, study=None, sampler="tpe", budget=None, seed=0, ladder=4, objectives=OBJECTIVES):
    space = space or make_space()
    return Search(
        study or open_study(None, "test", objectives),
        space,
        Inline(evaluate),
        objectives=objectives,
        budget=Budget.parse(budget or {}),
        sampler=sampler,
        options={"multivariate": True} if sampler == "tpe" else {},
        seed=seed,
        ladder=ladder_rows(space, ladder),
        dense={"error": 0.0, "error_se": 0.0, "loss": 0.0, "latency_ratio": 1.0},
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_no_recipe_twice_none_outside_and_exhausted_at_the_end(sampler):
    # a model-based sampler repeats itself many times before it gives up on what is left
    space, evaluate = make_space(2 if sampler == "gp" else 3), Evaluate()
    search = make_search(evaluate, space, sampler=sampler, budget={"flops": 0.4})
    feasible = space.inside(space.rows(0, space.size), Budget.parse({"flops": 0.4})).sum()
    assert search.run(1000) == "exhausted"
    assert len(evaluate.asked) == len(set(evaluate.asked)) == len(search.records) == feasible
    costs = space.costs(np.array([record.row for record in search.records]))
    dense = space.costs(np.zeros((1, len(space.axes)), dtype=np.int16))
    assert (costs["flops"] <= 0.4 * dense["flops"][0] + 0.5).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_ladder_comes_first_whatever_the_sampler(sampler):
    space = make_space()
    search = make_search(Evaluate(), space, sampler=sampler)
    search.run(5)
    rungs = [row.tolist() for row in ladder_rows(space, 4)]
    assert [record.row.tolist() for record in search.records[: len(rungs)]] == rungs
    assert [record.source for record in search.records] == ["ladder"] * 3 + ["search"] * 2


def test_the_dense_recipe_is_known_and_never_evaluated():
    evaluate = Evaluate()
    assert make_search(evaluate, make_space(2, (1, 0.5)), sampler="exhaustive").run(10) == "exhausted"
    assert Recipe() not in evaluate.asked
    assert len(evaluate.asked) == 3


def test_outside_is_told_pruned_with_its_excess_and_a_repeat_with_the_known_values():
    study = open_study(None, "test", OBJECTIVES)
    make_search(Evaluate(), study=study, sampler="random", budget={"flops": 0.5}).run(15)
    pruned = study.get_trials(states=[optuna.trial.TrialState.PRUNED])
    assert pruned
    assert all(trial.constraints["flops"] > 0 for trial in pruned)
    repeats = [t for t in study.trials if t.user_attrs["proposal"]["outcome"] == "DUPLICATE"]
    assert repeats
    for repeat in repeats:
        first = study.trials[repeat.user_attrs["proposal"]["duplicate_of"]]
        assert repeat.values == first.values
        assert repeat.params == first.params


PROPOSALS = {
    "COMPLETE": {"values": [0.1, 0.5], "metrics": {"error": 0.1}, "rung": 1},
    "FAIL": {"reason": "MemoryError: out of memory"},
    "PRUNED": {"excess": {"flops": 0.2}},
}


@pytest.mark.parametrize("state", PROPOSALS)
def test_a_proposal_is_what_its_json_says(state):
    proposal = Proposal(np.array([0, 2, 1], dtype=np.int16), "search", "DUPLICATE", duplicate_of=0, **PROPOSALS[state])
    stored = json.loads(json.dumps(proposal.to_dict()))
    again = Proposal.of(stored)
    assert again.to_dict() == stored
    assert again.row.tobytes() == proposal.row.tobytes()
    assert (again.state, again.duplicate_of, again.rung) == (state, 0, proposal.rung)
    assert (again.values, again.metrics, again.reason, again.excess) == (
        proposal.values,
        proposal.metrics,
        proposal.reason,
        proposal.excess,
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("stops", [[3], [1, 2, 9], [5, 6, 7, 8]])
def test_resumed_equals_uninterrupted(tmp_path, sampler, stops):
    def table(search: Search) -> list[tuple[list[int], dict[str, float]]]:
        return [(r.row.tolist(), {k: v for k, v in r.metrics.items() if k != "seconds"}) for r in search.records]

    whole = make_search(Evaluate(), make_space(3), sampler=sampler)
    whole.run(14)
    for trials in [*stops, 14]:
        study = open_study(journal(tmp_path / "study.journal"), "test", OBJECTIVES)
        part = make_search(Evaluate(), make_space(3), study=study, sampler=sampler)
        part.run(trials)
    assert table(part) == table(whole)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_interrupted_evaluations_are_run_again_and_change_nothing(tmp_path, sampler):
    """An evaluation that dies at each of the first trials in turn leaves the final table as it was."""
    whole = make_search(Evaluate(), sampler=sampler)
    whole.run(12)
    for crash_at in itertools.count(1, 3):
        calls = itertools.count(1)

        def dying(job, calls=calls, crash_at=crash_at):
            if next(calls) == crash_at:
                raise KeyboardInterrupt
            return Evaluate()(job)

        study = open_study(journal(tmp_path / "study.journal"), "test", OBJECTIVES)
        search = make_search(dying, study=study, sampler=sampler)
        try:
            search.run(12)
        except KeyboardInterrupt:
            continue
        break
    assert [r.row.tolist() for r in search.records] == [r.row.tolist() for r in whole.records]
    assert not any(trial.state == optuna.trial.TrialState.RUNNING for trial in study.trials)


def test_a_trial_says_its_ratios_to_who_reads_the_study_with_optuna(tmp_path):
    space = make_space()
    study = open_study(journal(tmp_path / "study.journal"), "test", OBJECTIVES)
    search = make_search(Evaluate(), space, study)
    search.run(6)
    stored = open_study(journal(tmp_path / "study.journal"), "test", OBJECTIVES).trials
    recipes = [space.recipe(record.row).to_dict() for record in search.records]
    assert [stored[record.number].user_attrs["recipe"] for record in search.records] == recipes


def test_seeds_differ_and_repeat():
    def rows(seed: int) -> list[list[int]]:
        search = make_search(Evaluate(), make_space(4), seed=seed)
        search.run(20)
        return [record.row.tolist() for record in search.records]

    assert rows(1) == rows(1)
    assert rows(1) != rows(2)


def test_a_failing_recipe_is_one_failed_trial_with_its_reason():
    def evaluate(job: Job) -> dict[str, float]:
        if job.recipe.ratios.get("l0") == 0.5:
            raise MemoryError("out of memory\nmore lines")
        return Evaluate()(job)

    search = make_search(evaluate, sampler="exhaustive")
    search.run(30)
    failed = [record for record in search.records if record.state == "FAIL"]
    assert failed
    assert {record.reason for record in failed} == {"MemoryError: out of memory"}
    assert len(search.records) == 30


def test_values_that_are_not_finite_fail():
    search = make_search(lambda job: {"error": float("nan") if job.recipe.ratios.get("l1") else 0.5})
    search.run(6)
    assert {record.state for record in search.records} == {"COMPLETE", "FAIL"}


def test_all_failing_stops_and_says_why():
    def broken(job: Job) -> dict[str, float]:
        raise RuntimeError("no such kernel")

    with pytest.raises(PruningError, match="all of 5 evaluations failed: RuntimeError: no such kernel"):
        make_search(broken).run(100)


def test_timeout_ends_before_the_next_evaluation():
    search = make_search(Evaluate())
    assert search.run(50, timeout=0) == "timeout"
    assert search.records == []


@pytest.mark.parametrize("sampler", ["random", "frontier"])
@pytest.mark.parametrize("stop", [0, 6])
def test_an_evaluation_that_ran_out_of_time_is_made_again_and_changes_nothing(monkeypatch, sampler, stop):
    straight = make_search(Evaluate(), sampler=sampler)
    straight.run(10)
    evaluate, clock = Evaluate(), [0.0]
    monkeypatch.setattr("explorer.search.search.time.monotonic", lambda: clock[0])

    def hurried(job: Job) -> dict[str, float]:
        if len(evaluate.asked) == stop and not clock[0]:
            assert job.deadline is not None
            clock[0] = 61.0
            raise OutOfTimeError
        return evaluate(job)

    study, shown = open_study(None, "test", OBJECTIVES), list[int]()
    search = make_search(hurried, study=study, sampler=sampler)
    assert search.run(10, timeout=1, on_record=lambda records: shown.append(len(records))) == "timeout"
    assert shown == list(range(1, stop + 1))
    again = make_search(hurried, study=study, sampler=sampler)
    assert again.run(10) == "trials"
    assert [r.row.tolist() for r in again.records] == [r.row.tolist() for r in straight.records]
    assert [r.values for r in again.records] == [r.values for r in straight.records]


def test_a_latency_over_budget_costs_no_accuracy_and_is_not_asked_again():
    measured: list[Recipe] = []

    def evaluate(job: Job) -> dict[str, float]:
        measured.append(job.recipe)
        if job.recipe.ratios.get("l2", 1.0) > 0.5:
            raise OverBudgetError(0.2)
        return {"error": 0.5, "latency_ms": 1.0, "latency_ratio": 0.5}

    search = make_search(evaluate, sampler="exhaustive", objectives=["error", "latency"])
    assert search.run(1000) == "exhausted"
    assert len(measured) == len(set(measured)) == 63
    assert len(search.records) == 32
    assert Recipe() not in measured


def test_an_outcome_that_was_written_but_not_told_is_not_evaluated_again(tmp_path, monkeypatch):
    whole = make_search(Evaluate())
    whole.run(8)
    told = itertools.count(1)
    tell = optuna.Study.tell

    def dying(self, *arguments, **options):
        if next(told) == 5:
            raise SystemExit
        return tell(self, *arguments, **options)

    evaluate = Evaluate()
    path = tmp_path / "study.journal"
    search = make_search(evaluate, study=open_study(journal(path), "test", OBJECTIVES))
    monkeypatch.setattr(optuna.Study, "tell", dying)
    with pytest.raises(SystemExit):
        search.run(8)
    monkeypatch.setattr(optuna.Study, "tell", tell)
    again = make_search(evaluate, study=open_study(journal(path), "test", OBJECTIVES))
    again.run(8)
    assert len(evaluate.asked) == len(set(evaluate.asked)) == 8
    assert [r.row.tolist() for r in again.records] == [r.row.tolist() for r in whole.records]


@pytest.mark.parametrize(("units", "measured"), [(6, 50), (2, 15)])
def test_a_latency_that_nothing_reaches_ends_the_search(units, measured):
    def slow(job: Job) -> dict[str, float]:
        raise OverBudgetError(job.recipe.ratios.get("l0", 1.0))

    study = open_study(None, "test", OBJECTIVES)
    message = f"budget: the latency of all {measured} recipes that were measured is over it, by 25% at the least"
    with pytest.raises(PruningError, match=message):
        make_search(slow, make_space(units), study, sampler="random").run(1000)
    assert not study.get_trials(states=[optuna.trial.TrialState.RUNNING])


def test_a_repeat_of_what_was_too_slow_is_told_its_excess():
    def slow(job: Job) -> dict[str, float]:
        if job.recipe.ratios.get("l0", 1.0) > 0.5:
            raise OverBudgetError(0.2)
        return {"error": 0.5, "latency_ratio": 0.5}

    study = open_study(None, "test", ["error", "latency"])
    make_search(slow, make_space(2), study, sampler="random", objectives=["error", "latency"], ladder=0).run(99)
    repeats = [t for t in study.trials if t.user_attrs["proposal"]["outcome"] == "DUPLICATE" and t.constraints]
    assert repeats
    assert all(t.constraints == {"latency": 0.2} for t in repeats)


@pytest.mark.parametrize("trials", [3, 100])
def test_a_hopeless_study_says_so_at_once_when_it_is_continued(trials):
    def broken(job: Job) -> dict[str, float]:
        raise RuntimeError("no such kernel")

    study = open_study(None, "test", OBJECTIVES)
    for _ in range(2):
        with pytest.raises(PruningError, match="evaluations failed: RuntimeError: no such kernel"):
            make_search(broken, study=study).run(trials)
    assert len(study.trials) == min(trials, 5)
