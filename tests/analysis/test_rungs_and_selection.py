"""Which points: those of one rung, within limits, next to a budget; and the lines that say how good they are."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.analysis.plots import comparison_data, pareto_data, pareto_figure
from explorer.analysis.selection import best_within, chosen_trials
from explorer.analysis.stairs import median_stair, reached, stair
from explorer.analysis.tables import Scale, at_rung, frontier_table, trials_table
from explorer.analysis.views import export_line, final_line, frontier_view
from explorer.runs.outcome import seen_validation
from explorer.search.history import Record
from explorer.search.metrics import METRICS
from spaces import PruningError
from tests.support.synthetic import chain, space_of

SCALE = Scale(["error", "flops"], {"error": 0.9})
DENSE = {"flops": 232, "params": 232, "bytes": 960, "error": 0.02}
ROWS = [[0, 0, 1], [1, 1, 1], [2, 2, 2], [3, 3, 3]]
# by rung
ERRORS = [[0.3, 0.04], [0.2], [0.4, 0.1], [0.5]]


def trials() -> pd.DataFrame:
    space = space_of(chain([8, 8, 8, 10]), [1, 0.75, 0.5, 0.25])
    records = []
    for row, errors in zip(ROWS, ERRORS, strict=True):
        metrics = [{"error": e, "error_se": 0.01, "loss": 2 * e, "validation_inputs": 100.0} for e in errors]
        *lower, last = metrics
        row_ = np.array(row, dtype=np.int16)
        records.append(Record(row_, "COMPLETE", "search", last, rung=len(lower), lower=tuple(lower)))
    return trials_table(space, records)


def front() -> pd.DataFrame:
    return frontier_table(trials(), SCALE, 0).assign(latency_ms=[1.0, 2.0, 1.5])


def test_the_frontier_is_of_the_highest_rung():
    table = frontier_table(trials(), SCALE)
    assert table["trial"].tolist() == [2, 0]
    assert set(table["rung"]) == {1}
    assert SCALE.hypervolume(trials()) == pytest.approx(SCALE.hypervolume(table))


def test_a_lower_rung_has_the_errors_of_that_rung():
    table = at_rung(trials(), 0)
    assert table["error"].tolist() == [errors[0] for errors in ERRORS]
    assert table["error_se"].isna().tolist() == [True, False, True, False]
    assert set(table["rung"]) == {0}
    assert frontier_table(trials(), SCALE, 0)["trial"].tolist() == [3, 2, 1]
    with_one_rung = trials()[lambda rows: rows["rung"] == 0]
    pd.testing.assert_frame_equal(at_rung(with_one_rung), with_one_rung)
    assert len(at_rung(trials().iloc[:0])) == 0


def test_an_error_asks_for_the_cheapest_and_latency_is_a_limit():
    table = front()
    assert table["trial"].tolist() == [3, 2, 1]
    assert best_within(table, DENSE, {"error": 0.45})["trial"] == 2
    assert best_within(table, DENSE, {"error": 0.5, "flops": 0.9})["trial"] == 3
    assert best_within(table, DENSE, {"latency_ms": 1.5})["trial"] == 1
    assert best_within(table, DENSE, {"latency_ms": 1.2})["trial"] == 3
    assert best_within(table, DENSE, {"flops": None})["trial"] == 1


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"error": 0.1}, "error: no frontier point is within error=0.1, the least error is 0.2"),
        ({"error": 10}, "error: 10, allowed is a share such as 0.1 for 10 %"),
        ({"error": -1}, "error: -1, allowed is a number > 0"),
        ({"latency_ms": 0.1}, "latency_ms: no frontier point is within latency_ms=0.1, the fastest takes 1 ms"),
        ({"latency_ms": "2 ms"}, "latency_ms: '2 ms', allowed is a number > 0"),
        ({"latency": 0.5}, "latency: 0.5, but the latency of these points was not measured"),
        ({"flopz": 1}, "'flopz' is unknown, did you mean 'flops'"),
    ],
)
def test_limits_that_nothing_is_within_say_how_near_it_comes(limits, message):
    with pytest.raises(PruningError, match=re.escape(message)):
        best_within(front(), DENSE, limits)


def test_what_is_asked_for_is_retrained_first_and_with_a_budget_the_point_next_to_it():
    table = front()
    assert chosen_trials(table, 0, dense=DENSE) == []
    assert chosen_trials(table, 1, dense=DENSE, bounded=True) == [1]
    assert chosen_trials(table, 0, dense=DENSE, bounded=True) == []
    assert chosen_trials(table, 0, dense=DENSE, at={"error": 0.45}) == [2]
    assert chosen_trials(table, 2, dense=DENSE, at={"error": 0.5}, bounded=True)[:2] == [3, 1]
    assert sorted(chosen_trials(table, 9, dense=DENSE, at={"error": 0.45}, bounded=True)) == [1, 2, 3]
    assert chosen_trials(table.iloc[:0], 3, dense=DENSE, at={"error": 0.5}, bounded=True) == []


def test_points_of_lower_rungs_are_drawn_apart():
    data = pareto_data(trials(), DENSE, SCALE, "flops", "error")
    assert data["kind"].value_counts().to_dict() == {"search": 2, "lower": 2, "frontier": 2, "dense": 1}


def test_a_cost_that_was_not_measured_draws_nothing_and_chance_is_grey():
    table = trials().assign(latency_ms=[1.0, np.nan, 2.0, np.nan])
    data = pareto_data(table, DENSE, SCALE, "latency_ms", "error")
    assert data["kind"].tolist().count("dense") == 0
    assert data["x"].notna().all()
    table.loc[2, "error"] = 0.88
    data = pareto_data(table, DENSE, SCALE, "flops", "error")
    assert set(data.loc[data["chance"], "y"]) == {88}
    figure = pareto_figure(table, DENSE, SCALE, x="flops", bounds=[("flops", 0, 116)], doubts=["it may be wrong"])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {"near chance", "budget", "at a lower rung"} <= set(labels)
    assert figure._supxlabel.get_text() == "Note: it may be wrong."


def test_errors_without_a_bound_leave_the_others_to_be_read():
    table = trials().assign(error=[0.3, 0.4, 0.5, 0.35])
    table.loc[[1, 2], "error"] = [0.9, 40.0]
    ax = pareto_figure(table, DENSE, SCALE, x="flops").axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert "near chance, above the plot" in labels
    assert 35 < ax.get_ylim()[1] < 90
    # of errors that have a bound all are inside
    table.loc[2, "error"] = 1.0
    assert pareto_figure(table, DENSE, SCALE, x="flops").axes[0].get_ylim()[1] > 100


def test_jobs_are_told_apart_by_what_they_differ_in():
    points = pd.DataFrame({"granularity": ["filter", "mixed"], "error": [0.1, 0.2], "flops_ratio": [0.5, 0.4]})
    assert comparison_data(points)["series"].tolist() == ["filter", "mixed"]
    jobs = points.assign(sampler=["tpe", "qmc"], space="filter", job=["a", "b"])
    assert comparison_data(jobs)["series"].tolist() == ["tpe", "qmc"]
    assert comparison_data(jobs.assign(space=["s", "t"]))["series"].tolist() == ["s tpe", "t qmc"]


some = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8)


@given(some)
def test_a_stair_is_the_least_within_each_cost(values):
    points = pd.DataFrame(values, columns=["x", "y"])
    x = np.linspace(0, 1, 11)
    expected = [points.loc[points["x"] <= limit, "y"].min() for limit in x]
    np.testing.assert_array_equal(reached(points, x), expected)
    assert stair(points)["y"].is_monotonic_decreasing


@given(st.lists(some, min_size=1, max_size=4))
def test_the_median_of_stairs_is_that_of_their_values(sets):
    frames = [pd.DataFrame(values, columns=["x", "y"]) for values in sets]
    middle = median_stair(frames)
    first = max(frame["x"].min() for frame in frames)
    assert len(middle) == 0 or middle["x"].min() >= first
    for x in np.linspace(0, 1, 7):
        if x >= first:
            assert reached(middle, [x])[0] == np.median([reached(frame, [x])[0] for frame in frames])


def test_lines_say_the_test_error_beside_dense_at_which_cost():
    rows = [("dense", 3, 0.1, 0.01, 1.0), ("trial-0004", 3, 0.125, 0.02, 0.5)]
    table = pd.DataFrame(rows, columns=["point", "n", "test_error", "test_error_sd", "flops_ratio"])
    line = final_line(table.assign(params_ratio=table["flops_ratio"]), METRICS["error"])
    assert line is not None
    assert "12.50 ± 2.00 (dense 10.00 ± 1.00) at 0.500 of the multiply-adds" in line
    assert final_line(table.iloc[:1], METRICS["error"]) is None
    metrics = {"test_error": 0.2, "test_error_se": 0.01, "flops": 116, "params": 58}
    line = export_line(metrics, DENSE | {"test_error": 0.1}, METRICS["error"])
    assert line == "test error (%) 20.00 ± 1.00 (dense 10.00) at 0.500 of the multiply-adds and 0.250 of the parameters"


def test_a_latency_whose_quartiles_are_far_apart_is_marked_and_dense_has_its_own():
    table = front().assign(latency_ratio=0.5, latency_dense_ms=[2.0, 4.0, 3.0], latency_ms_q1=[1.0, 1.0, 1.45])
    view = frontier_view(
        table.assign(latency_ms_q3=[1.05, 3.0, 1.55]), {**DENSE, "error_se": math.nan}, METRICS["error"]
    )
    cells = {column.header: list(column.cells) for column in view.columns}
    assert cells["1 input ms"] == ["1.00", "~2.00", "1.50", "3.00"]


@pytest.mark.parametrize(
    ("dense", "said"),
    [
        ({"error": 0.044, "error_se": 0.003, "test_error": 0.116, "test_error_se": 0.003}, True),
        ({"error": 0.11, "error_se": 0.005, "test_error": 0.116, "test_error_se": 0.003}, False),
        ({"error": 0.2, "error_se": 0.003, "test_error": 0.116, "test_error_se": 0.003}, False),
        ({"error": 0.044, "error_se": math.nan, "test_error": 0.116, "test_error_se": math.nan}, False),
        ({"error": 0.044, "error_se": 0.003}, False),
    ],
)
def test_weights_that_have_seen_validation_are_told(dense, said):
    assert bool(seen_validation(dense, METRICS["error"])) == said
