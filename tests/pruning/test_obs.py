"""Optimal Brain Surgeon: scores are errors that remain after the best update, found here by least squares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.pruning.criteria import obs, score
from explorer.tracing import trace
from tests.support.small_models import cbr, conv

X = torch.randn(12, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture(autouse=True)
def _everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all places be looked at."""
    monkeypatch.setattr(obs, "_POSITIONS", 1000)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(conv(3, 5), nn.ReLU(), conv(5, 4), nn.Flatten(), nn.Linear(144, 2)).double().eval()


def inputs(model: nn.Module) -> Tensor:
    """Return what the second convolution multiplies, about its mean: [rows, 5 * 9], channels outermost."""
    with torch.no_grad():
        rows = F.unfold(model[1](model[0](X)), 3, padding=1).transpose(1, 2).flatten(0, 1)
    return rows - rows.mean(0)


def lost(rows: Tensor, weights: Tensor, removed: list[int]) -> float:
    """Return the least error with some rows of the weights zero, as the criterion's ridge has it."""
    ridge = 0.01 * float(rows.square().sum(0).mean())
    left = [place for place in range(rows.size(1)) if place not in removed]
    # the change of what is left is penalised, and that of what is removed counts too
    system = np.concatenate([rows[:, left].numpy(), np.sqrt(ridge) * np.eye(len(left))])
    wanted = np.concatenate([(rows[:, removed] @ weights[removed]).numpy(), np.zeros((len(left), weights.size(1)))])
    change, *_ = np.linalg.lstsq(system, wanted, rcond=None)
    return float(((system @ change - wanted) ** 2).sum() + ridge * float(weights[removed].square().sum()))


def test_a_weight_costs_what_the_best_update_leaves(model: nn.Module) -> None:
    found = score(model, trace(model, X[:1]), "obs", batches=[(X, None)]).weights["2.weight"]
    rows, weights = inputs(model), model[2].weight.detach().flatten(1).T
    for place in (0, 7, 44):
        for column in (0, 3):
            expected = lost(rows, weights[:, column : column + 1], [place])
            assert float(found.flatten(1)[column, place]) == pytest.approx(expected, rel=1e-6)


def test_channels_leave_in_the_order_of_what_they_cost_then(model: nn.Module) -> None:
    found = score(model, trace(model, X[:1]), "obs", batches=[(X, None)]).channels["0"]
    rows, weights = inputs(model), model[2].weight.detach().flatten(1).T
    level = float((rows @ weights).square().sum())
    level += 0.01 * float(rows.square().sum(0).mean()) * float(weights.square().sum())
    removed: list[int] = []
    for channel in found.argsort().tolist():
        costs = {
            other: lost(rows, weights, [place for one in (*removed, other) for place in range(9 * one, 9 * one + 9)])
            for other in range(5)
            if other not in removed
        }
        assert min(costs, key=costs.__getitem__) == channel
        removed.append(channel)
        assert float(found[channel]) == pytest.approx(costs[channel] / level, rel=1e-6)


def test_a_copy_costs_nothing() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(cbr(3, 6), conv(6, 2), nn.Flatten()).double().eval()
    with torch.no_grad():
        model[0][0].weight[5] = model[0][0].weight[2]
    found = score(model, trace(model, X[:1]), "obs", batches=[(X, None)]).channels["0.0"]
    assert found.argmin() in (2, 5)
    assert float(found.min()) < 0.01 * float(found.max())


def test_a_unit_that_nothing_known_reads_has_the_scores_of_l1(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(obs, "_WIDEST", 1)
    network = trace(model, X[:1])
    found, plain = (score(model, network, name, batches=[(X, None)]).channels for name in ("obs", "l1"))
    for unit, values in plain.items():
        torch.testing.assert_close(found[unit], values)
