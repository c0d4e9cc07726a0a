"""Allocations among a space's choices: against brute force on spaces that can be enumerated, and their mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

import explorer
from explorer.pruning.allocation import CHOOSERS, Offer, allocate, asked_baselines, check_reach
from explorer.runs.config import RunConfig
from explorer.utils.conf import run_section
from spaces import BlockUnit, ChannelUnit, Dim, Layer, Network, PruningError, PruningSpace, Span, Tensor
from tests.support.known import COUNTED
from tests.support.synthetic import chain, config, space_of

RATIOS = [1, 0.75, 0.5, 0.25]
PATTERNS = [
    {"granularity": "none"},
    {"granularity": "element", "ratios": [0.5, 0.25]},
    {"granularity": "vector", "n": 2, "m": 4},
]


def apart(widths: list[int]) -> Network:
    """Return layers that read the input each, so that costs are sums over units."""
    units = tuple(ChannelUnit(f"l{i}", width, writers=(f"l{i}",)) for i, width in enumerate(widths))
    rows = [Dim((Span(f"l{i}", 0, width),)) for i, width in enumerate(widths)]
    tensors = tuple(Tensor(f"l{i}.weight", (row, Dim((Span(None, 0, 7),), reads=True))) for i, row in enumerate(rows))
    layers = tuple(Layer(f"l{i}", "linear", f"l{i}.weight", i + 1) for i in range(len(widths)))
    return Network("apart", units, tensors=tensors, layers=layers)


def mixed() -> PruningSpace:
    """Return a space of channels, patterns and a block, small enough to be enumerated."""
    network = chain([8, 12, 8], positions=4)
    network = Network("mixed", network.units, tensors=network.tensors, layers=network.layers, blocks=(BlockUnit("l1"),))
    lists = {
        "weights": [{"match": "l[01]", "choices": PATTERNS}],
        "blocks": [{"match": "*", "choices": [{"granularity": "layer", "ratios": [1, 0]}]}],
    }
    return PruningSpace.from_config(network, config(RATIOS, **lists))


def changes_of(space: PruningSpace, seed: int) -> list[Any]:
    """Return made-up changes that rise with what a kind of choice removes."""
    rng, found = np.random.default_rng(seed), []
    for axis in space.axes:
        table = np.zeros(len(axis.choices))
        for members in axis.families.values():
            removed = np.array([1 - axis.ratios[choice] for choice in members])
            table[list(members)] = removed ** rng.uniform(0.5, 3) * np.exp(rng.normal())
        found.append(table)
    return found


def target_of(offer: Offer, share: float) -> float:
    least, most = offer.costs(offer.ends)
    return float(least + share * (most - least))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 16), min_size=2, max_size=4), st.integers(0, 999), st.sampled_from(COUNTED), st.floats(0, 1)
)
def test_knapsack_is_the_best_of_all_where_costs_are_sums(widths, seed, metric, share):
    space = space_of(apart(widths), RATIOS)
    offer = Offer(space, changes_of(space, seed), metric)
    target = target_of(offer, share)
    rows = space.rows(0, space.size)
    level, row = CHOOSERS["knapsack"](offer, target)
    assert offer.costs(row[None])[0] <= target
    assert level == pytest.approx(offer.change(row[None])[0])
    assert level == pytest.approx(offer.change(rows)[offer.costs(rows) <= target].min())


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.integers(0, 999), st.sampled_from(COUNTED), st.floats(0, 1))
# a block has to go and three other choices to change with it
@example(True, 323, "flops", 0.125)
@example(True, 670, "flops", 0.3)
def test_knapsack_is_near_the_best_of_all_where_they_are_products(patterns, seed, metric, share):
    space = mixed() if patterns else space_of(chain([8, 12, 16, 9, 5], positions=3), RATIOS)
    offer = Offer(space, changes_of(space, seed), metric)
    target = target_of(offer, share)
    rows = space.rows(0, space.size)
    level, row = CHOOSERS["knapsack"](offer, target)
    assert offer.costs(row[None])[0] <= target
    assert (space.canonical(row[None].copy()) == row).all()
    best = offer.change(rows)[offer.costs(rows) <= target].min()
    assert best - 1e-9 <= level <= 1.1 * best + 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 999), st.sampled_from(COUNTED), st.floats(0, 1), st.sampled_from([None, "channels", "element"]))
def test_threshold_is_the_least_whose_recipe_fits(seed, metric, share, family):
    space = mixed() if family else space_of(chain([8, 12, 16, 9]), RATIOS)
    offer = Offer(space, changes_of(space, seed), metric, family)
    target = target_of(offer, share)
    level, row = CHOOSERS["threshold"](offer, target)
    assert offer.costs(row[None])[0] <= target
    levels = sorted({float(value) for table in offer.changes for value in table})
    for lower in [one for one in levels if one < level]:
        rows = np.array([[within(offer, place, lower) for place in range(len(space.axes))]], dtype=np.int16)
        assert offer.costs(space.canonical(rows))[0] > target
    if offer.costs(np.array([[within(offer, p, level) for p in range(len(space.axes))]])) <= target:
        assert row.tolist() == [within(offer, place, level) for place in range(len(space.axes))]


def within(offer: Offer, place: int, level: float) -> int:
    """Return the choice of the smallest ratio whose change is within a level."""
    allowed = [c for c in offer.choices[place] if offer.changes[place][c] <= level]
    return min(allowed, key=lambda c: offer.space.axes[place].ratios[c])


def test_a_family_leaves_the_others_whole():
    space = mixed()
    for family in ("channels", "element"):
        for name in CHOOSERS:
            found = allocate(space, None, name, {"params": 0.7}, family=family, changes=lambda: changes_of(space, 3))
            assert (bool(found.recipe.channels), bool(found.recipe.weights)) == (
                family == "channels", family == "element",
            )  # fmt: skip
            assert not found.recipe.blocks
            assert found.family == family
            assert found.achieved <= 0.7


def test_knapsack_takes_all_families_and_threshold_wants_one():
    space = mixed()
    found = allocate(space, None, "knapsack", {"flops": 0.3}, changes=lambda: changes_of(space, 3))
    assert (found.family, found.achieved <= 0.3) == ("all", True)
    assert found.recipe in space
    with pytest.raises(PruningError, match=r"^family: not given, and needed in a space of several: channels, element"):
        allocate(space, None, "threshold", {"flops": 0.3}, changes=lambda: changes_of(space, 3))


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("knapsac", {"flops": 0.5}, "allocation: 'knapsac' is unknown"),
        ("knapsack", {"flops": 0.01}, "flops: 0.01 is out of reach, allowed is "),
        ("threshold", {"params": "9G"}, "params: '9G' is out of reach, allowed is "),
        ("threshold", {"latency": 0.5}, "latency: 'threshold' aims at a cost that is counted, allowed are flops"),
    ],
)
def test_mistakes_are_one_line_and_cost_no_measurement(name, target, message):
    space = space_of(chain([8, 8, 8]), RATIOS)
    with pytest.raises(PruningError) as caught:
        allocate(space, None, name, target, changes=lambda: pytest.fail("measured"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_targets_are_checked_before_anything_is_loaded():
    targets = run_section("baseline_targets", {"flops": [], "latency": [0.5]})
    asked = asked_baselines(["knapsack"], targets, None)
    with pytest.raises(PruningError, match=r"^baseline_targets.latency: 'knapsack' aims at a cost"):
        check_reach(mixed(), asked)
    with pytest.raises(PruningError, match=r"^baselines: 'knapsak' is unknown, .*knapsack"):
        RunConfig.composed(["baselines=[knapsak]"])


def test_a_study_has_them_and_its_sensitivity():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    batches = [(torch.randn(8, 6), torch.arange(8) % 3) for _ in range(2)]
    study = explorer.explore(
        model, batches, batches, trials=2, ladder=0, sampler="random",
        baselines=["knapsack", "threshold"], baseline_targets={"flops": [0.5]},
    )  # fmt: skip
    space = study.problem.space
    assert study.baselines is not None
    assert (study.baselines["flops_ratio"] <= 0.5).all()
    table = study.sensitivity.set_index(["layer", "ratio"])["change"]
    candidate = study.allocate("knapsack", flops=0.5)
    assert candidate.recipe in space
    summed = sum(table[name, ratio] for name, ratio in candidate.recipe.channels)
    assert candidate.metrics["level"] == pytest.approx(summed)
    rows = space.rows(0, space.size)
    offer = Offer(space, study.problem.features.changes, "flops")
    fitting = rows[offer.costs(rows) <= 0.5 * space.dense["flops"]]
    assert summed == pytest.approx(offer.change(fitting).min())
