"""Proxies: each against a computation by hand, on a network small enough for one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer.data.task import classification, regression
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.proxies import PROXIES, proxies_table
from explorer.pruning.criteria import score
from explorer.search.jobs import Job
from explorer.tracing import trace
from spaces import PruningSpace
from tests.support.synthetic import config


def made() -> tuple[Inherited, PruningSpace]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    with torch.no_grad():
        model[1].running_mean.normal_()
    network = trace(model, torch.zeros(2, 3))
    batch = (torch.randn(16, 3), torch.randint(0, 2, (16,)))
    scores = score(model, network)
    inherited = Inherited.of(model, network, scores, [batch], [batch], classification(2))
    return inherited, PruningSpace.from_config(network, config([1, 0.5]))


def test_scores_are_what_they_say() -> None:
    inherited, space = made()
    rows = [np.array(row, dtype=np.int16) for row in ((0, 0), (1, 0), (1, 1))]
    table = proxies_table(inherited, space, rows)
    assert list(table) == list(PROXIES)
    assert np.isfinite(table.to_numpy()).all()
    assert table["importance"].is_monotonic_decreasing
    assert table["change"].is_monotonic_increasing
    for number, row in enumerate(rows):
        recipe = space.recipe(row)
        module, _ = inherited.pruned(recipe)
        found = table.iloc[number]
        assert found["vanilla_error"] == inherited.meter.measured(module)["error"]
        assert found["bn_loss"] == pytest.approx(inherited(Job(0, recipe))["loss"])
        inputs, targets = inherited.calibration[0]
        loss = F.cross_entropy(module(inputs), targets)
        by_hand = sum(
            float((p.detach() * g).abs().sum())
            for p, g in zip(module.parameters(), torch.autograd.grad(loss, [*module.parameters()]), strict=True)
        )
        assert found["snip"] == pytest.approx(math.log(by_hand), rel=1e-4)
        kept = inherited.pruner.kept(recipe)
        scores = inherited.pruner.scores.channels
        shares = [float((s[kept[n]] if n in kept else s).sum() / s.sum()) for n, s in scores.items()]
        assert found["importance"] == pytest.approx(np.mean(shares))


def test_synflow_of_a_linear_network_is_a_product() -> None:
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 1, bias=False))
    network = trace(model, torch.zeros(1, 2))
    batch = (torch.randn(4, 2), torch.randn(4, 1))
    inherited = Inherited.of(model, network, score(model, network), [batch], [batch], regression())
    space = PruningSpace.from_config(network, config([1, 0.34]))
    table = proxies_table(inherited, space, [np.array([0], dtype=np.int16), np.array([1], dtype=np.int16)])
    for number, row in enumerate(([0], [1])):
        module = inherited.build(space.recipe(np.array(row)))
        flow = float((module[1].weight.abs() @ module[0].weight.abs()).detach().sum())
        # every layer's weights times their gradients add up to the output
        assert table["synflow"][number] == pytest.approx(math.log(2 * flow), rel=1e-6)


def test_the_dense_network_and_training_state_are_left_alone() -> None:
    inherited, space = made()
    before = {name: value.clone() for name, value in inherited.pruner.model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in inherited.pruner.model.parameters()]
    proxies_table(inherited, space, [np.array([1, 1], dtype=np.int16)])
    assert all(torch.equal(before[name], value) for name, value in inherited.pruner.model.state_dict().items())
    assert [parameter.requires_grad for parameter in inherited.pruner.model.parameters()] == flags


def test_other_evaluators_are_columns_too() -> None:
    inherited, space = made()
    table = proxies_table(
        inherited, space, [np.array([1, 1], dtype=np.int16)], others={"again": inherited}, on_row=lambda count: None
    )
    assert table["again_error"].tolist() == table["bn_error"].tolist()
    assert list(table) == [*PROXIES, "again_error", "again_loss"]


def test_inputs_that_are_no_numbers_have_no_synflow() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 2))
    inputs = torch.randint(0, 5, (4, 3))
    network = trace(model, inputs[:1])
    batch = (inputs, torch.randint(0, 2, (4,)))
    inherited = Inherited.of(model, network, score(model, network), [batch], [batch], classification(2))
    space = PruningSpace.from_config(network, config([1, 0.5], match="2"))
    table = proxies_table(inherited, space, [np.array([1], dtype=np.int16)])
    assert math.isnan(table["synflow"][0])
    assert math.isfinite(table["snip"][0])
