"""Histograms count what listing counts, and draw uniformly, of channels, patterns and nested blocks alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from spaces import Budget, Histogram, PruningSpace, count_inside
from tests.spaces.test_mixed_space import LARGE, SMALL
from tests.support.known import COUNTED
from tests.support.synthetic import SPACES, chain, space_of

WIDE = space_of(chain([64] * 26), [i / 8 for i in range(1, 9)])


def _costs(space: PruningSpace, metric: str) -> np.ndarray:
    return space.costs(space.rows(0, space.size))[metric]


@given(SPACES, st.sampled_from(COUNTED), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_counts_are_those_of_a_list(space: PruningSpace, metric: str, one: float, other: float) -> None:
    costs = _costs(space, metric)
    low, high = (space.dense[metric] * share for share in sorted((one, other)))
    found = Histogram.of(space, metric, low - 0.5, high + 0.5)
    assert found is not None
    assert found.exact
    assert found.count == ((costs >= low - 0.5) & (costs <= high + 0.5)).sum()


@pytest.mark.parametrize("metric", COUNTED)
@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.2, 0.4), (0.1, 0.12), (0.9, 1), (0.99, 1)])
def test_patterns_and_nested_blocks_are_counted(metric: str, low: float, high: float) -> None:
    costs, dense = _costs(SMALL, metric), SMALL.dense[metric]
    found = Histogram.of(SMALL, metric, low * dense, high * dense)
    assert found is not None
    inside = (costs >= low * dense) & (costs <= high * dense)
    assert found.count == inside.sum() if found.exact else found.count >= inside.sum()
    rows = found.draw(500, np.random.default_rng(0))
    assert np.array_equal(SMALL.canonical(rows.copy()), rows)
    if found.exact and found.count:
        drawn = SMALL.costs(rows)[metric]
        assert ((drawn >= low * dense) & (drawn <= high * dense)).all()


def test_a_large_mixed_space_is_counted_whole() -> None:
    found = Histogram.of(LARGE, "flops", 0, LARGE.dense["flops"])
    assert found is not None
    assert found.count == pytest.approx(LARGE.size, rel=1e-12)


@pytest.mark.parametrize("bins", [1 << 14, 300])
def test_draws_are_uniform_also_where_costs_are_rounded(bins: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spaces.histogram._MOST", bins)
    metric, low, high = "flops", 0.4, 0.6
    costs, dense = _costs(SMALL, metric), SMALL.dense[metric]
    members = np.flatnonzero((costs >= low * dense) & (costs <= high * dense)).tolist()
    found = Histogram.of(SMALL, metric, low * dense, high * dense)
    assert found is not None
    assert len(members) > 20
    rows = found.draw(200 * len(members), np.random.default_rng(0))
    drawn = SMALL.costs(rows)[metric]
    kept = rows[(drawn >= low * dense) & (drawn <= high * dense)]
    ranks = [SMALL.rank(row) for row in kept]
    counts = np.array([ranks.count(member) for member in members])
    assert counts.sum() == len(ranks)
    assert chisquare(counts).pvalue > 0.001
    # what was drawn in vain is what the range was widened by
    assert len(kept) / len(rows) == pytest.approx(len(members) / found.count, rel=0.1)


def test_a_rare_regime_of_a_large_space_is_counted() -> None:
    regime = Budget.regime(0.2, 0.01)
    sampled = count_inside(WIDE, np.random.default_rng(0), budget=regime, draws=2_000_000)
    low, high = ((0.2 + sign * 0.01) * WIDE.dense["flops"] for sign in (-1, 1))
    found = Histogram.of(WIDE, "flops", low - 0.5, high + 0.5)
    assert found is not None
    assert sampled.low <= found.count <= sampled.high
    rare = count_inside(WIDE, np.random.default_rng(0), budget=Budget.regime(0.05, 0.001))
    assert 0 < rare.low <= rare.value <= rare.high < WIDE.size / 1e9


def test_a_space_beyond_float64_is_counted() -> None:
    space = space_of(chain([64] * 400), [i / 8 for i in range(1, 9)])
    found = Histogram.of(space, "flops", 0, space.dense["flops"])
    assert found is not None
    assert found.count * 1000 // space.size in (999, 1000)


def test_entangled_axes_have_no_histogram(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spaces.histogram._STATES", 3)
    assert Histogram.of(SMALL, "flops", 0, 1e9) is None


def test_an_empty_range_has_none() -> None:
    found = Histogram.of(WIDE, "flops", -10, -5)
    assert found is not None
    assert found.count == 0
    assert found.draw(3, np.random.default_rng(0)).shape == (0, len(WIDE.axes))
