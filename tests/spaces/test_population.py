"""Populations are distinct, inside, and every set of them is as likely; also where a regime is rare."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from spaces import Budget, PruningError, PruningSpace, sample_population
from tests.spaces.test_mixed_space import SMALL as MIXED
from tests.support.synthetic import SPACES, chain, config, space_of

SMALL = space_of(chain([8, 8, 8, 8, 2]), [1, 0.75, 0.5, 0.25])
WIDE = space_of(chain([64] * 26), [i / 8 for i in range(1, 9)])


def members(space: PruningSpace, budget: Budget) -> list[int]:
    rows = space.rows(0, space.size)
    return np.flatnonzero(space.inside(rows, budget)).tolist()


@given(SPACES, st.floats(0.1, 1), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_populations_are_distinct_and_inside(space: PruningSpace, high: float, n: int) -> None:
    budget = Budget.parse({"flops": high})
    there = len(members(space, budget))
    if there < n:
        with pytest.raises(PruningError, match=r"recipes wanted and|holds no recipe"):
            sample_population(space, n, np.random.default_rng(0), budget=budget)
        return
    rows = sample_population(space, n, np.random.default_rng(0), budget=budget)
    assert rows.shape == (n, len(space.axes))
    assert space.inside(rows, budget).all()
    assert len({row.tobytes() for row in rows}) == n


@pytest.mark.parametrize(
    ("space", "listed", "tried"),
    [
        (SMALL, 2_000_000, 0),
        (SMALL, 0, 1 << 18),
        (SMALL, 0, 0),
        (MIXED, 2_000_000, 0),
        (MIXED, 0, 1 << 18),
        (MIXED, 0, 0),
    ],
    ids=["listed", "rejected", "histogram", "listed-mixed", "rejected-mixed", "histogram-mixed"],
)
def test_every_recipe_of_a_regime_is_as_likely(
    space: PruningSpace, listed: int, tried: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spaces.population._LISTED", listed)
    monkeypatch.setattr("spaces.population._TRIED", tried)
    monkeypatch.setattr("spaces.population._BLOCK", 64)
    budget = Budget.regime(0.4, 0.06)
    inside = members(space, budget)
    assert 10 < len(inside) < 150
    counts, rng = dict.fromkeys(inside, 0), np.random.default_rng(0)
    for _ in range(1500):
        for row in sample_population(space, 5, rng, budget=budget):
            counts[space.rank(row)] += 1
    # drawn without replacement counts scatter a little less than chi-square has it
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_every_pair_of_a_small_regime_is_as_likely() -> None:
    budget = Budget.regime(0.15, 0.02)
    inside = members(SMALL, budget)
    pairs = dict.fromkeys(combinations(inside, 2), 0)
    assert 3 < len(inside) < 30
    rng = np.random.default_rng(1)
    for _ in range(40 * len(pairs)):
        first, second = sorted(SMALL.rank(row) for row in sample_population(SMALL, 2, rng, budget=budget))
        pairs[first, second] += 1
    assert chisquare(list(pairs.values())).pvalue > 0.001


def test_a_regime_of_one_recipe_in_a_billion_is_drawn_from() -> None:
    budget = Budget.regime(0.05, 0.001)
    rows = sample_population(WIDE, 200, np.random.default_rng(0), budget=budget)
    assert WIDE.inside(rows, budget).all()
    assert len(np.unique(rows, axis=0)) == 200


def test_other_limits_hold_in_a_rare_regime_too() -> None:
    space = PruningSpace.from_config(
        WIDE.network, config([i / 8 for i in range(1, 9)], constraints={"params": [0, 0.06], "rho": [0.9, 1.1]})
    )
    rows = sample_population(space, 50, np.random.default_rng(0), budget=Budget.regime(0.05, 0.005))
    costs = space.costs(rows)
    assert (costs["params"] <= 0.06 * space.dense["params"] + 0.5).all()
    assert space.inside(rows, space.constraints & Budget.regime(0.05, 0.005)).all()


def test_strata_share_the_recipes_over_the_flops() -> None:
    budget, dense = Budget.parse({"flops": [0.1, 0.5]}), WIDE.dense["flops"]
    rows = sample_population(WIDE, 202, np.random.default_rng(0), budget=budget, strata=4)
    share = WIDE.costs(rows)["flops"] / dense
    assert np.histogram(share, [0.1, 0.2, 0.3, 0.4, 0.5])[0].tolist() == [51, 51, 50, 50]
    plain = sample_population(WIDE, 202, np.random.default_rng(0), budget=budget)
    low = np.quantile(WIDE.costs(plain)["flops"] / dense, 0.25)
    assert low > 0.2
    # many strata of one recipe each are spread evenly
    even = sample_population(WIDE, 100, np.random.default_rng(1), budget=budget, strata=100)
    assert kstest((WIDE.costs(even)["flops"] / dense - 0.1) / 0.4, "uniform").pvalue > 0.5


def test_a_seed_gives_the_same_population() -> None:
    one, two, other = (
        sample_population(WIDE, 20, np.random.default_rng(seed), budget=Budget.regime(0.3, 0.02)) for seed in (3, 3, 4)
    )
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(("space", "flops"), [(SMALL, 0.3), (WIDE, 0.3), (WIDE, 0.05)], ids=["listed", "drawn", "rare"])
@pytest.mark.parametrize("strata", [1, 3])
def test_a_larger_population_begins_with_the_smaller_one(space: PruningSpace, flops: float, strata: int) -> None:
    few, many = (
        sample_population(space, n, np.random.default_rng(5), budget=Budget.regime(flops, 0.05), strata=strata)
        for n in (7, 16)
    )
    assert np.array_equal(few, many[:7])


def test_what_cannot_be_drawn_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(PruningError, match="9 recipes wanted and 1 found with flops 1 to 1") as caught:
        sample_population(SMALL, 9, rng, budget=Budget.parse({"flops": [1, 1]}))
    assert "\n" not in str(caught.value)
    with pytest.raises(PruningError, match="holds no recipe"):
        sample_population(SMALL, 1, rng, budget=Budget.regime(0.001, 0))
    with pytest.raises(PruningError, match="100 recipes wanted and"):
        sample_population(WIDE, 100, rng, budget=Budget.parse({"flops": [0.9999, 1]}))
    monkeypatch.setattr("spaces.histogram._STATES", 1)
    monkeypatch.setattr("spaces.population._MOST", 1 << 17)
    with pytest.raises(PruningError, match="100 of 100 recipes were not found in 262,144 draws"):
        sample_population(WIDE, 100, rng, budget=Budget.regime(0.05, 0.001))
