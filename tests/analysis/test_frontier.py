"""Frontier, hypervolume and the tables and plots made of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_rgb

from explorer.analysis.plots import comparison_figure, draw_pareto, pareto_data, pareto_figure, save
from explorer.analysis.plots.granularities import LOOKS
from explorer.analysis.selection import best_within, ends_first
from explorer.analysis.tables import Scale, frontier_table, trials_table
from explorer.search.frontier import hypervolume, non_dominated
from explorer.search.history import Record
from spaces import PruningError
from tests.support.synthetic import chain, space_of

points = arrays(float, st.tuples(st.integers(0, 12), st.just(2)), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))


@given(points)
def test_every_point_is_kept_or_no_better_than_a_kept_one(values):
    keep = non_dominated(values)
    front = values[keep]
    for value, kept in zip(values, keep, strict=True):
        assert kept or (front <= value).all(1).any()
    for i, a in enumerate(front):
        assert not any((b <= a).all() for j, b in enumerate(front) if j != i)


@given(points)
def test_hypervolume_is_that_of_the_front_and_counts_grid_cells(values):
    grid = np.linspace(0, 1, 21)[:-1] + 0.025
    cells = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    covered = (values[None] <= cells[:, None]).all(2).any(1).mean() if len(values) else 0.0
    assert hypervolume(values, [1, 1]) == pytest.approx(covered)
    assert hypervolume(values[non_dominated(values)], [1, 1]) == pytest.approx(covered)


def test_nan_is_dominated_and_ignored():
    values = np.array([[np.nan, 0.1], [0.5, 0.5]])
    assert non_dominated(values).tolist() == [False, True]
    assert hypervolume(values, [1, 1]) == pytest.approx(0.25)
    assert hypervolume(np.full((1, 2), np.nan), [1, 1]) == 0


def make_trials() -> tuple[pd.DataFrame, Scale]:
    space = space_of(chain([8, 8, 8, 10]), [1, 0.75, 0.5, 0.25])
    rows = [[0, 0, 1], [1, 1, 1], [2, 2, 2], [3, 3, 3], [1, 2, 3]]
    errors = [0.05, 0.1, 0.3, 0.6, 0.7]
    records = [
        Record(np.array(row, dtype=np.int16), "COMPLETE", "ladder" if i % 2 else "search", metrics)
        for i, (row, e) in enumerate(zip(rows, errors, strict=True))
        for metrics in [{"error": e, "error_se": 0.01, "loss": 2 * e, "seconds": 0.5}]
    ]
    records.append(Record(np.array([3, 0, 0], dtype=np.int16), "FAIL", "search", {}, reason="out of memory"))
    return trials_table(space, records), Scale(["error", "flops"], {"error": 0.9})


def test_a_row_a_record_with_every_cost_and_ratio():
    trials, _ = make_trials()
    assert len(trials) == 6
    assert trials["reason"].iloc[5] == "out of memory"
    assert np.isnan(trials["error"].iloc[5])
    row = trials.iloc[1]
    assert row[["channels.l0", "channels.l1", "channels.l2"]].tolist() == [0.75] * 3
    assert row["flops"] == 3 * 6 + 6 * 6 + 6 * 6 + 6 * 10 == row["params"]
    assert row["bytes"] == 4 * row["params"] + 4 * 8
    assert row["flops_ratio"] == row["flops"] / (3 * 8 + 8 * 8 + 8 * 8 + 8 * 10)
    assert row["mcb"] == 1
    assert row["rho"] == pytest.approx(1)


def test_the_frontier_is_sorted_and_without_what_failed_or_is_dominated():
    trials, scale = make_trials()
    front = frontier_table(trials, scale)
    assert front["trial"].tolist() == [3, 2, 1, 0]
    assert front["flops"].is_monotonic_increasing
    assert scale.hypervolume(trials) == pytest.approx(scale.hypervolume(front))


def test_the_best_within_a_budget_is_the_least_error_inside_it():
    trials, scale = make_trials()
    front, dense = frontier_table(trials, scale), {"flops": 232, "params": 232, "bytes": 960}
    assert best_within(front, dense, {"flops": 0.7})["trial"] == 1
    assert best_within(front, dense, {"params": 40})["trial"] == 3
    assert best_within(front, dense, {})["trial"] == 0
    with pytest.raises(PruningError, match="no frontier point is within"):
        best_within(front, dense, {"flops": 0.01})


def test_the_plot_shows_every_finished_trial_the_front_and_dense(tmp_path):
    trials, scale = make_trials()
    dense = {"error": 0.02, "error_se": 0.001, "flops": 232.0}
    data = pareto_data(trials, dense, scale, "flops", "error")
    assert data["kind"].value_counts().to_dict() == {"search": 3, "ladder": 2, "frontier": 4, "dense": 1}
    assert data.loc[data["kind"] == "dense", "y"].item() == pytest.approx(2)
    figure = pareto_figure(trials, dense, scale, x="flops")
    labels = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert labels == {"explored", "uniform ratios", "frontier (± 1 s.e.)", "dense network"}
    assert {path.suffix for path in save(figure, tmp_path / "pareto")} == {".png", ".svg", ".pdf"}
    assert all(path.stat().st_size > 1000 for path in tmp_path.iterdir())


def test_a_legend_names_only_what_is_seen():
    trials, scale = make_trials()
    # the dominated ones taken away: all that was explored lies on the frontier
    figure = pareto_figure(trials.iloc[:4], {"error": 0.02, "flops": 232.0}, scale, x="flops")
    labels = {text.get_text() for text in figure.axes[0].get_legend().get_texts()}
    assert labels == {"uniform ratios", "frontier (± 1 s.e.)", "dense network"}


def test_a_figure_says_that_points_have_no_latency():
    table = pd.DataFrame({"flops_ratio": [0.2, 0.6, 0.8], "error": [0.5, 0.2, 0.1], "granularity": "filter"})
    table["latency_batch_ratio"] = [0.5, np.nan, 0.9]
    captions = [comparison_figure(part, 0.05)._supxlabel for part in (table, table.dropna())]
    assert captions[0].get_text() == "Note: latency was measured of 2 of 3 points."
    assert captions[1] is None


def test_markers_of_several_jobs_are_measured_points():
    jobs = [pd.DataFrame({"flops_ratio": [0.2, 0.6], "error": [0.5 - d, 0.1 + d]}) for d in (0, 0.05)]
    table = pd.concat([part.assign(job=str(i), granularity="filter") for i, part in enumerate(jobs)])
    ax = comparison_figure(table, 0.05, trivial=0.9).axes[0]
    marked = [line for line in ax.lines if line.get_marker() not in ("None", "*") and line.get_markevery() is None]
    shown = {tuple(point) for line in marked for point in np.round(line.get_xydata(), 6).tolist()}
    assert shown == {(0.2, 50.0), (0.6, 10.0), (0.2, 45.0), (0.6, 15.0)}


def test_no_granularity_has_the_look_of_another_or_of_what_is_near_chance():
    assert len(set(LOOKS.values())) == len(LOOKS)
    reds, greens, blues = zip(*(to_rgb(colour) for colour, *_ in LOOKS.values()), strict=True)
    grey = [max(c) - min(c) < 0.05 for c in zip(reds, greens, blues, strict=True)]
    assert [name for name, is_grey in zip(LOOKS, grey, strict=True) if is_grey] == ["layer"]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 31])
def test_however_many_are_taken_they_are_spread_over_all(n):
    order = ends_first(n)
    assert sorted(order) == list(range(n))
    assert set(order[:2]) == {0, n - 1} if n > 1 else True
    for count in range(3, n):
        gaps = np.diff(sorted(order[:count]))
        # no gap is more than twice another, as they are halved; whole numbers round
        assert gaps.max() <= 2 * gaps.min() + 1


def test_a_plot_of_no_trials_still_shows_the_dense_network():
    trials, scale = make_trials()
    figure = pareto_figure(trials.iloc[:0], {"error": 0.02, "flops": 232.0}, scale, x="flops")
    data = pareto_data(trials.iloc[:0], {"error": 0.02, "flops": 232.0}, scale, "flops", "error")
    assert draw_pareto(data, figure.axes[0]).collections
