"""Budgets and regimes: what is inside, sampling it uniformly, counting it, and proving it empty."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from spaces import Budget, PruningError, PruningSpace, count_inside, dense_costs, sample_inside
from tests.support.synthetic import SPACES, chain, config, space_of

SMALL = space_of(chain([8, 8, 8, 8, 2]), [1, 0.75, 0.5, 0.25])
DENSE = dense_costs(SMALL.network)


def _members(space: PruningSpace, budget: Budget) -> list[int]:
    """Return the positions of the recipes inside, one by one."""
    rows = space.rows(0, space.size)
    return [i for i in range(space.size) if space.inside(rows[i : i + 1], budget)[0]]


@pytest.mark.parametrize(
    ("written", "bounds"),
    [
        ({}, ()),
        ({"flops": None}, ()),
        ({"flops": 0.5}, (("flops", 0, 0.5),)),
        ({"flops": "0.5"}, (("flops", 0, 0.5),)),
        ({"flops": 1}, (("flops", 0, 1),)),
        ({"flops": "60M"}, (("flops", 0, 60e6),)),
        ({"params": " 1.5 k "}, (("params", 0, 1500),)),
        ({"bytes": "4g"}, (("bytes", 0, 4e9),)),
        ({"flops": [0.2, 0.8]}, (("flops", 0.2, 0.8),)),
        ({"flops": (0.2, "80M"), "params": 7}, (("flops", 0.2, 80e6), ("params", 0, 7))),
    ],
)
def test_budgets_are_read(written: dict[str, Any], bounds: tuple[Any, ...]) -> None:
    budget = Budget.parse(written)
    assert budget.bounds == bounds
    assert bool(budget) is bool(bounds)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"flop": 0.5}, "budget: 'flop' is unknown, did you mean 'flops'? Allowed: flops, params, bytes"),
        ({"flops": -0.5}, "budget.flops: -0.5 is no amount"),
        ({"flops": float("nan")}, "budget.flops: nan is no amount"),
        ({"flops": float("inf")}, "budget.flops: inf is no amount"),
        ({"flops": True}, "budget.flops: True is no amount"),
        ({"flops": "60 apples"}, "budget.flops: '60 apples' is no amount"),
        ({"flops": {"max": 1}}, "budget.flops: {'max': 1} is no amount"),
        ({"flops": 0}, "budget.flops: 0 leaves nothing"),
        ({"flops": [0.8, 0.2]}, "budget.flops: [0.8, 0.2] leaves nothing"),
        ({"flops": [0.2]}, "budget.flops: [0.2] is neither a limit nor a pair"),
        ({"flops": []}, "budget.flops: [] is neither a limit nor a pair"),
        (0.5, "budget: expected a mapping"),
        (["flops"], "budget: expected a mapping"),
    ],
)
def test_mistakes_are_one_line(written: Any, words: str) -> None:
    with pytest.raises(PruningError) as caught:
        Budget.parse(written)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("flops", "tol"), [(0, 0.1), (1.1, 0.1), (0.5, -0.1)])
def test_impossible_regimes(flops: float, tol: float) -> None:
    with pytest.raises(PruningError, match="regime: "):
        Budget.regime(flops, tol)


@given(SPACES, st.floats(0.01, 1), st.floats(0, 0.3))
@settings(max_examples=50, deadline=None)
def test_regime_is_its_definition(space: PruningSpace, flops: float, tol: float) -> None:
    rows = space.rows(0, space.size)
    dense = dense_costs(space.network)["flops"]
    costs = space.costs(rows)["flops"]
    inside = space.inside(rows, Budget.regime(flops, tol))
    # up to half a multiply-add, which absorbs the rounding of relative limits
    assert inside[np.abs(costs - flops * dense) <= tol * dense].all()
    assert not inside[np.abs(costs - flops * dense) > tol * dense + 1].any()


@pytest.mark.parametrize(
    "budget",
    [
        {"flops": 0.5},
        {"params": [0.3, 0.4]},
        {"flops": [0.2, 0.5], "params": [0.3, 1], "bytes": "600"},
        {"flops": DENSE["flops"]},
        {"flops": [DENSE["flops"], DENSE["flops"]]},  # exactly the dense network
        {"flops": 1},
    ],
)
def test_absolute_and_relative_bounds_by_hand(budget: dict[str, Any]) -> None:
    rows = SMALL.rows(0, SMALL.size)
    costs = SMALL.costs(rows)
    expected = np.ones(len(rows), dtype=bool)
    for metric, low, high in Budget.parse(budget).bounds:
        low, high = (value * DENSE[metric] if value <= 1 else value for value in (low, high))
        expected &= (costs[metric] >= low - 0.5) & (costs[metric] <= high + 0.5)
    inside = SMALL.inside(rows, Budget.parse(budget))
    assert inside.tolist() == expected.tolist()
    assert inside.any()
    assert not SMALL.violation(rows, Budget.parse(budget))[inside].any()
    assert (SMALL.violation(rows, Budget.parse(budget))[~inside] > 0).all()


@given(st.floats(0.05, 1), st.integers(0, 30), st.sampled_from(["recipes", "axes"]))
@settings(max_examples=25, deadline=None)
def test_samples_lie_inside(high: float, n: int, measure: str) -> None:
    budget = Budget.parse({"flops": high, "params": [0, 1]})
    if not _members(SMALL, budget):
        return
    sample = sample_inside(SMALL, n, np.random.default_rng(0), budget=budget, measure=measure)
    assert sample.rows.shape == (n, len(SMALL.axes))
    assert sample.uniform
    assert sample.hits >= n
    assert SMALL.inside(sample.rows, budget).all()


def test_rejection_is_uniform_over_the_members() -> None:
    budget = Budget.regime(0.3, 0.05)
    members = _members(SMALL, budget)
    sample = sample_inside(SMALL, 200 * len(members), np.random.default_rng(1), budget=budget)
    ranks = [SMALL.rank(row) for row in sample.rows]
    counts = np.array([ranks.count(member) for member in members])
    assert 10 < len(members) < SMALL.size
    assert counts.sum() == len(ranks)
    assert chisquare(counts).pvalue > 0.001
    assert sample.hits / sample.draws == pytest.approx(len(members) / SMALL.size, rel=0.05)


def test_constraints_and_budget_are_both_kept() -> None:
    space = PruningSpace.from_config(SMALL.network, config([1, 0.5, 0.25], constraints={"flops": [0.2, 0.8]}))
    budget = Budget.parse({"params": 0.5, "flops": [0.3, 1]})
    rows = sample_inside(space, 50, np.random.default_rng(0), budget=budget).rows
    costs = space.costs(rows)
    assert (costs["flops"] >= 0.3 * DENSE["flops"] - 0.5).all()
    assert (costs["flops"] <= 0.8 * DENSE["flops"] + 0.5).all()
    assert (costs["params"] <= 0.5 * DENSE["params"] + 0.5).all()


WIDE = space_of(chain([64] * 26), [i / 8 for i in range(1, 9)])
TAIL = Budget.regime(0.105, 0.001)
"""About one recipe in a million."""


def test_a_regime_in_the_tail_is_reached_by_walks() -> None:
    start = time.perf_counter()
    sample = sample_inside(WIDE, 300, np.random.default_rng(0), budget=TAIL, max_draws=300_000)
    assert time.perf_counter() - start < 15
    assert WIDE.inside(sample.rows, TAIL).all()
    assert len(sample.rows) == 300
    assert not sample.uniform
    assert len(np.unique(sample.rows, axis=0)) > 250


@pytest.mark.slow
def test_a_regime_in_the_tail_with_all_draws() -> None:
    start = time.perf_counter()
    sample = sample_inside(WIDE, 200, np.random.default_rng(0), budget=TAIL)
    assert time.perf_counter() - start < 30
    assert WIDE.inside(sample.rows, TAIL).all()
    assert 0 < sample.hits < 2000 * sample.draws / 1e6


@pytest.mark.parametrize(
    ("constraints", "budget", "words"),
    [
        ({}, {"flops": 0.001}, "budget.flops: [0, 0.001] of dense holds no recipe, the space reaches 0.0"),
        ({}, {"params": [10**6, 10**7]}, "budget.params: "),
        ({"flops": [0.1, 0.3]}, {"flops": [0.5, 0.9]}, "budget.flops: [0.5, 0.3] of dense holds no recipe"),
        ({}, {"flops": [0.9, 20]}, "budget.flops: "),
    ],
)
def test_bounds_prove_a_regime_empty(constraints: dict[str, Any], budget: dict[str, Any], words: str) -> None:
    space = PruningSpace.from_config(SMALL.network, config([1, 0.75, 0.5, 0.25], constraints=constraints))
    with pytest.raises(PruningError) as caught:
        sample_inside(space, 1, np.random.default_rng(0), budget=Budget.parse(budget))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_gap_says_how_hard_it_was_looked_for() -> None:
    gapped = space_of(chain([8, 8, 2]), [1, 0.125])
    with pytest.raises(PruningError, match=r"none found in 20,000 draws and a local search, share below 0\.00015"):
        sample_inside(gapped, 1, np.random.default_rng(0), budget=Budget.regime(0.8, 0.01), max_draws=20_000)


@given(SPACES, st.floats(0.05, 1))
@settings(max_examples=30, deadline=None)
def test_small_spaces_are_counted_exactly(space: PruningSpace, high: float) -> None:
    budget = Budget.parse({"flops": high})
    count = count_inside(space, np.random.default_rng(0), budget=budget)
    assert count.exact
    assert count.value == len(_members(space, budget))


def test_unlimited_spaces_of_any_size_are_counted_exactly() -> None:
    for space in (SMALL, WIDE):
        count = count_inside(space, np.random.default_rng(0))
        assert count.exact
        assert count.value == space.size


@pytest.mark.parametrize(("flops", "tol"), [(0.3, 0.1), (0.2, 0.01), (0.9, 0.05)])
def test_sampled_intervals_cover_the_truth(flops: float, tol: float, monkeypatch: pytest.MonkeyPatch) -> None:
    budget = Budget.regime(flops, tol)
    truth = count_inside(SMALL, np.random.default_rng(0), budget=budget).value
    monkeypatch.setattr("spaces.regime._ENUMERABLE", 0)
    counts = [count_inside(SMALL, np.random.default_rng(i), budget=budget, draws=2000) for i in range(100)]
    assert sum(count.low <= truth <= count.high for count in counts) >= 88
    assert np.mean([count.value for count in counts]) == pytest.approx(truth, rel=0.1, abs=0.5)


def test_a_space_beyond_float64_is_counted() -> None:
    space = space_of(chain([64] * 400), [i / 8 for i in range(1, 9)])
    assert space.size == 8**399
    count = count_inside(space, np.random.default_rng(0), budget=Budget.parse({"flops": 0.99}), draws=1000)
    assert 0 < count.low <= count.value <= count.high <= space.size
