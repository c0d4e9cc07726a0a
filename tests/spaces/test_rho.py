"""A bound on FLOPs per parameter: decided in whole numbers, counted, sampled, and proven empty."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import Budget, PruningError, PruningSpace, count_inside, sample_inside
from tests.spaces.test_mixed_space import SMALL as MIXED
from tests.support.synthetic import chain, config, space_of

CHAIN = space_of(chain([8, 8, 8, 8, 2]), [1, 0.75, 0.5, 0.25])


def rho(space: PruningSpace) -> list[Fraction]:
    """Return the exact rho of every recipe."""
    costs, dense = space.costs(space.rows(0, space.size)), space.dense
    unit = Fraction(dense["params"], dense["flops"])
    pairs = zip(costs["flops"].tolist(), costs["params"].tolist(), strict=True)
    return [Fraction(flops, params) * unit for flops, params in pairs]


@given(st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=100, deadline=None)
def test_bounds_are_the_decimals_that_were_written(one: int, other: int) -> None:
    low, high = sorted((one, other))
    if not high:
        return
    budget = Budget.parse({"rho": [low / 100, high / 100]})
    inside = MIXED.inside(MIXED.rows(0, MIXED.size), budget)
    assert inside.tolist() == [Fraction(low, 100) <= value <= Fraction(high, 100) for value in rho(MIXED)]


def test_ties_with_a_bound_are_inside() -> None:
    # a network of linear layers does one multiply-add a parameter, whatever is left of it
    rows = CHAIN.rows(0, CHAIN.size)
    assert set(rho(CHAIN)) == {Fraction(1)}
    assert CHAIN.inside(rows, Budget.parse({"rho": [1, 1]})).all()
    assert not CHAIN.inside(rows, Budget.parse({"rho": [1.0000000001, 2]})).any()
    assert not CHAIN.inside(rows, Budget.parse({"rho": 0.9999999999})).any()


def test_a_space_with_a_rho_is_counted_and_sampled() -> None:
    space = PruningSpace(MIXED.network, MIXED.axes, Budget.parse({"rho": [0.9, 1.1], "flops": [0.3, 0.8]}))
    rows = MIXED.rows(0, MIXED.size)
    truth = int(
        (
            MIXED.inside(rows, Budget.parse({"rho": [0.9, 1.1]}))
            & MIXED.inside(rows, Budget.parse({"flops": [0.3, 0.8]}))
        ).sum()
    )
    assert count_inside(space, np.random.default_rng(0)).value == truth > 5
    assert len(list(space.enumerate())) == truth
    sample = sample_inside(space, 100, np.random.default_rng(0))
    assert sample.uniform
    assert space.inside(sample.rows, space.constraints).all()


def test_a_rho_is_told_by_how_much_it_is_missed() -> None:
    costs = {"flops": np.array([50, 100, 200]), "params": np.array([100, 100, 100])}
    dense = {"flops": 1000.0, "params": 1000.0}
    excess = Budget.parse({"rho": [0.8, 1.5]}).excess(costs, dense)["rho"]
    assert excess.tolist() == pytest.approx([0.3, -0.2, 0.5])
    both = Budget.parse({"rho": [0.8, 1.5]}) & Budget.parse({"rho": [1.2, 9]})
    assert both.excess(costs, dense)["rho"].tolist() == pytest.approx([0.7, 0.2, 0.5])


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (
            {"rho": "60M"},
            "budget.rho: '60M' is no ratio, allowed is a number from 0, of which 1 is the dense network's",
        ),
        ({"rho": -1}, "budget.rho: -1 is no ratio"),
        ({"rho": True}, "budget.rho: True is no ratio"),
        ({"rho": [float("nan"), 1]}, "budget.rho: nan is no ratio"),
        ({"rho": [2, 1]}, "budget.rho: [2, 1] leaves nothing"),
        ({"roh": 1}, "budget: 'roh' is unknown, did you mean 'rho'? Allowed: flops, params, bytes, memory"),
    ],
)
def test_mistakes_are_one_line(written: dict[str, Any], words: str) -> None:
    with pytest.raises(PruningError) as caught:
        Budget.parse(written)
    assert words in str(caught.value)


@pytest.mark.parametrize("constraints", [{"rho": [50, 90]}, {"rho": 1e-6}, {"flops": [0.9, 1], "rho": 0.5}])
def test_bounds_prove_a_rho_empty(constraints: dict[str, Any]) -> None:
    space = PruningSpace.from_config(CHAIN.network, config([1, 0.5], constraints=constraints))
    with pytest.raises(PruningError, match=r"budget\.rho: .* holds no recipe"):
        sample_inside(space, 1, np.random.default_rng(0))
