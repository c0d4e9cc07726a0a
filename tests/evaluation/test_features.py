"""Features: what they say of recipes, of any network, and what they cost."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from explorer.data import head, size_of
from explorer.data.task import classification, regression
from explorer.evaluation import features
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.features import features_of
from explorer.pruning.criteria import score
from explorer.tracing import trace
from spaces import PruningSpace, Recipe

RATIOS = [1, 0.75, 0.5, 0.25]
FILTER = {"channels": [{"match": "*", "choices": [{"granularity": "filter", "ratios": RATIOS}]}]}
MIXED = FILTER | {
    "weights": [
        {
            "match": "*",
            "choices": [
                {"granularity": "none"},
                {"granularity": "element", "ratios": [0.75, 0.5, 0.25]},
                {"granularity": "vector", "n": 2, "m": 4},
            ],
        }
    ]
}


class Named(nn.Module):
    """Takes a mapping, and draws numbers even in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x):
        return self.b(torch.relu(self.a(x)) + 1e-3 * torch.rand(()))


def images():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


MODELS = {
    "images, batch norm": (images, lambda n: torch.randn(n, 3, 8, 8), 4),
    "no norm": (lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4)), lambda n: torch.randn(n, 6), 4),
    "mapping, regression": (Named, lambda n: {"x": torch.randn(n, 6)}, None),
}


def evaluator_of(name, config, sizes=(40, 40)):
    build, draw, classes = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build().eval()
        target = (lambda n: torch.randint(0, classes, (n,))) if classes else (lambda n: torch.randn(n, 3))
        batches = [(draw(n), target(n)) for n in sizes]
    network = trace(model, head(batches[0][0], 1))
    space = PruningSpace.from_config(network, config)
    task = classification(classes) if classes else regression()
    return Inherited.of(model, network, score(model, network, "l1"), batches, batches, task), space


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("config", [FILTER, MIXED], ids=["filter", "mixed"])
def test_they_are_finite_cheap_and_rise_with_what_is_removed(name, config):
    evaluator, space = evaluator_of(name, config)
    found = features_of(evaluator, space, evaluator.calibration)
    rows = space.sample(200, np.random.default_rng(0))
    values = found(rows)
    assert values.shape == (200, 1)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    one = sum(size_of(targets) for _, targets in [*evaluator.calibration, *evaluator.meter.validation])
    families = sum(len(axis.families) for axis in space.axes)
    assert found.inputs <= max(4 * one, 32 * families)
    dense = found(np.zeros((1, len(space.axes)), dtype=np.int16))[0, 0]
    assert (values >= dense).all()
    for place, axis in enumerate(space.axes):
        for members in axis.families.values():
            ordered = sorted(members, key=lambda choice: -axis.ratios[choice])
            assert (np.diff(found.changes[place][ordered]) >= 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_they_are_the_same_every_time_and_in_another_process(name):
    evaluator, space = evaluator_of(name, MIXED)
    state = torch.get_rng_state()
    before = {key: value.clone() for key, value in evaluator.meter.model.state_dict().items()}
    found = features_of(evaluator, space, evaluator.calibration)
    again = features_of(evaluator, space, evaluator.calibration)
    rows = space.sample(50, np.random.default_rng(0))
    assert (found(rows) == again(rows)).all()
    assert (pickle.loads(pickle.dumps(found))(rows) == found(rows)).all()
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[key], value) for key, value in evaluator.meter.model.state_dict().items())


def test_they_order_recipes_nearly_as_the_change_of_predictions_does():
    evaluator, space = evaluator_of("images, batch norm", FILTER)
    found = features_of(evaluator, space, evaluator.calibration)
    rows = np.unique(space.sample(60, np.random.default_rng(0)), axis=0)
    inputs = evaluator.meter.validation[0][0]
    with torch.inference_mode():
        dense = evaluator.build(Recipe())(inputs)
        changes = [float((evaluator.build(space.recipe(row))(inputs) - dense).square().mean()) for row in rows]
    assert spearmanr(found(rows)[:, 0], changes)[0] > 0.8


def test_few_measurements_are_interpolated():
    evaluator, space = evaluator_of("no norm", MIXED, sizes=(1,))
    found = features_of(evaluator, space, evaluator.calibration)
    assert found.inputs == sum(len(axis.families) for axis in space.axes if len(axis.choices) > 1)
    assert all((table[[i for i, ratio in enumerate(axis.ratios) if ratio < 1]] > 0).all()
               for table, axis in zip(found.changes, space.axes, strict=True))  # fmt: skip


def test_of_very_many_kinds_some_are_tried(monkeypatch):
    evaluator, space = evaluator_of("no norm", MIXED, sizes=(4,))
    kinds = sum(len(axis.families) for axis in space.axes if len(axis.choices) > 1)
    monkeypatch.setattr(features, "_LEAST_KINDS", 2)
    found = features_of(evaluator, space, evaluator.calibration)
    # nothing is calibrated here: four evaluations read 16 inputs, and a choice costs four times what it reads
    assert kinds > found.inputs / 2 == 2
    assert sum(int((measured & (np.array(axis.ratios) < 1)).sum())
               for measured, axis in zip(found.measured, space.axes, strict=True)) == 2  # fmt: skip
    assert np.isfinite(found(space.sample(20, np.random.default_rng(0)))).all()


def test_a_network_that_does_not_run_leaves_the_ratios():
    evaluator, space = evaluator_of("no norm", FILTER)
    bad = [(torch.randn(4, 99), torch.zeros(4, dtype=torch.int64))]
    found = features_of(evaluator, space, bad)
    for table, axis in zip(found.changes, space.axes, strict=True):
        np.testing.assert_allclose(table, [(1 - ratio) ** 2 for ratio in axis.ratios])


def test_ten_thousand_rows_are_looked_up():
    evaluator, space = evaluator_of("images, batch norm", MIXED)
    found = features_of(evaluator, space, evaluator.calibration)
    rows = space.sample(10_000, np.random.default_rng(0))
    one_by_one = [found(row[None])[0, 0] for row in rows[:20]]
    np.testing.assert_allclose(found(rows)[:20, 0], one_by_one)
