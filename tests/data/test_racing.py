"""Evaluations that end early: only where the error is sure to be above the bar."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import nn

from explorer.data.predictions import wrong
from explorer.data.racing import Race, dealt
from explorer.data.task import Task, classification, regression


def batches(errors: np.ndarray, size: int = 50) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs that `Flipped` gets wrong where `errors` is 1."""
    inputs = torch.tensor(errors, dtype=torch.float32)[:, None]
    return list(zip(inputs.split(size), torch.zeros(len(inputs), dtype=torch.long).split(size), strict=True))


class Flipped(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([1 - inputs, inputs], 1) * 4


@given(st.floats(0, 1), st.floats(0, 1), st.integers(2, 500))
def test_what_all_inputs_say_is_compared_exactly(error, bar, inputs):
    assert Race(bar, inputs).lost(error, 0.3, inputs, inputs) == (error > bar)


def test_an_unknown_standard_error_never_loses():
    assert not Race(0.1, 1000).lost(0.9, float("nan"), 10, 100)


def test_equal_values_of_two_batches_do_not_lose():
    """Accuracy on batches of two, .5 on each of the first: a metric with one value a batch."""
    errors = np.tile([0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], 20)
    task = Task(metric=lambda predictions, targets: wrong(predictions, targets).mean(), trivial=1.0, trivial_loss=1.0)
    found = task.evaluate(Flipped(), batches(errors, 2), race=Race(0.3, len(errors)))
    assert found.n == len(errors)
    assert found.error == pytest.approx(0.25)


def test_looks_are_few_and_never_at_one_batch():
    race = Race(0.5, 100)
    assert [n for n in range(1, 100) if race.looks(n)] == [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96]


def test_a_recipe_at_the_bar_is_seldom_given_up_and_a_bad_one_soon():
    """Of a thousand orders of the same inputs, whose error is the bar exactly."""
    errors = np.zeros(2000)
    errors[:600] = 1
    rng = np.random.default_rng(0)
    race = Race(0.3, len(errors))
    lost = 0
    for _ in range(1000):
        shuffled = rng.permutation(errors)
        seen = [50 * n for n in range(1, 40) if race.looks(n)]
        lost += any(race.lost(shuffled[:n].mean(), shuffled[:n].std() / np.sqrt(n), n, n) for n in seen)
    # some ten looks with a risk of .01 each, that depend on each other, and binomial tails
    assert lost <= 100
    model, task = Flipped(), classification(2)
    found = task.evaluate(model, batches(rng.permutation(errors)), race=Race(0.1, len(errors)))
    assert found.n <= 200
    whole = task.evaluate(model, batches(errors))
    assert whole.error == pytest.approx(0.3)
    assert task.evaluate(model, batches(rng.permutation(errors)), race=Race(0.5, len(errors))).n == 2000


def test_of_a_regression_too():
    inputs = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    data = [(x, x + 1) for x in inputs.split(40)]
    found = regression().evaluate(nn.Identity(), data, race=Race(0.5, 400))
    assert found.n == 80
    assert found.error == pytest.approx(1)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(0, 3))
def test_dealt_batches_hold_the_same_pairs_in_the_same_sizes(sizes, seed):
    numbers = torch.arange(sum(sizes)).split(sizes)
    mixed = dealt([({"x": n[:, None].float(), "y": n}, -n) for n in numbers], seed)
    assert mixed is not None
    assert [len(targets) for _, targets in mixed] == sizes
    assert sorted(torch.cat([-targets for _, targets in mixed]).tolist()) == list(range(sum(sizes)))
    for inputs, targets in mixed:
        assert torch.equal(inputs["y"], -targets)
        assert torch.equal(inputs["x"][:, 0], -targets.float())


def test_batches_of_other_shapes_are_not_mixed():
    texts = [(torch.zeros(4, 5), torch.zeros(4)), (torch.zeros(4, 6), torch.zeros(4))]
    assert dealt(texts) is None
    assert dealt([((torch.zeros(2, 3), 7), torch.zeros(2))]) is None
