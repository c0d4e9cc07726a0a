"""Weights shared by all sub-networks: slices that gradients flow through, and what training them gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from explorer import data
from explorer.data.task import classification, regression
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.settings import Settings
from explorer.evaluation.supernet import _Sandwich, supernet
from explorer.evaluation.training import train
from explorer.pruning.criteria import score
from explorer.search.jobs import Job
from explorer.tracing import trace
from explorer.utils.space_section import named_space
from spaces import Budget, PruningError, PruningSpace

SETTINGS = Settings(learning_rate=0.05, temperature=1.0)
TASK = classification(10)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(8, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 8, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.bn1(self.conv1(x)).relu())


def network() -> nn.Module:
    """Return a small network with blocks to drop, channels to slice and weights to mask."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), _Block(8), _Block(12), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(32, 10))


CHOICES = {
    "channels": [{"match": "*.conv1", "choices": [{"granularity": "filter", "ratios": [1, 0.75, 0.5, 0.25]}]}],
    "weights": [
        {
            "match": "*.conv2",
            "choices": [{"granularity": "none"}, {"granularity": "element", "ratios": [0.5, 0.25]}],
        }
    ],
    "blocks": [{"match": "2", "choices": [{"granularity": "layer", "ratios": [1, 0]}]}],
}


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.load_digits()


@pytest.fixture(scope="module")
def batches(digits: data.Data) -> data.Batches:
    return data.Batches(
        digits.train, 64, mean=digits.mean, std=digits.std, generator=torch.Generator(), crop=1, flip=False
    )


def space_of(model: nn.Module) -> PruningSpace:
    return PruningSpace.from_config(trace(model, torch.zeros(1, 1, 8, 8)), CHOICES)


def test_parts_are_the_sub_networks_and_gradients_reach_what_they_keep() -> None:
    model = network()
    space = space_of(model)
    scores = score(model, space.network)
    x, y = torch.randn(6, 1, 8, 8), torch.arange(6)
    evaluator = Inherited.of(model, space.network, scores, [(x, y)], [(x, y)], TASK)
    sandwich = _Sandwich(model, space, Budget(), scores, task=TASK, settings=SETTINGS, samples=2)
    for row in space.sample(20, np.random.default_rng(0), "axes"):
        recipe = space.recipe(row)
        expected, masks = evaluator.pruned(recipe)
        model.zero_grad()
        output = sandwich._part(row)(x)
        torch.testing.assert_close(output, expected.train()(x), rtol=1e-4, atol=1e-5)
        output.square().sum().backward()
        for name, weight in model.named_parameters():
            got = 0 if weight.grad is None else int(weight.grad.count_nonzero())
            small = dict(expected.named_parameters()).get(name)
            kept = 0 if small is None else small.numel()
            masked = [mask for layer, (_, mask) in masks.items() if space.network.layer[layer].weight == name]
            assert got <= (int(masked[0].keep.sum()) if masked else kept)
            # a bias before batch norm has no gradient, and dead channels have none
            if kept and name.endswith(("0.weight", "5.weight")):
                assert got


def test_all_parameters_learn_and_a_step_along_the_gradient_goes_down() -> None:
    model = network()
    space = space_of(model)
    sandwich = _Sandwich(
        model, space, Budget(), score(model, space.network), task=TASK, settings=Settings(temperature=2.0), samples=2
    )
    sandwich.draw(np.random.default_rng(0))
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8)

    def loss() -> float:
        sandwich._rng = np.random.default_rng(1)
        return float(sandwich(x, y))

    before = loss()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter -= 1e-3 * parameter.grad
    # the targets move with the dense network: downhill all the same
    assert loss() < before


def test_cheapest_and_drawn_recipes_are_inside() -> None:
    model = network()
    space = space_of(model)
    limits = Budget.parse({"flops": [0.4, 0.7]})
    sandwich = _Sandwich(model, space, limits, score(model, space.network), task=TASK, settings=SETTINGS, samples=2)
    sandwich.draw(np.random.default_rng(0))
    rows = np.concatenate([sandwich._rows, sandwich._cheapest[None]])
    assert space.inside(rows, limits).all()
    free = _Sandwich(model, space, Budget(), score(model, space.network), task=TASK, settings=SETTINGS, samples=2)
    free.draw(np.random.default_rng(0))
    least = min(space.costs(space.rows(0, len(space)))["flops"])
    assert space.costs(free._cheapest[None])["flops"][0] == least


def test_sub_networks_that_inherit_shared_weights_are_better(digits, batches) -> None:
    model = network()
    train(model, batches, task=TASK, epochs=4, settings=Settings())
    space = space_of(model)
    scores = score(model, space.network)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    options = {"task": TASK, "scores": scores, "settings": SETTINGS}
    shared = supernet(model, space, batches, epochs=4, **options)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    inputs = list(data.Batches(digits.validation, 200, mean=digits.mean, std=digits.std))
    errors = []
    for module in (model, shared):
        evaluator = Inherited.of(module, space.network, scores, inputs[:1], inputs, TASK)
        rows = space.sample(10, np.random.default_rng(1), "axes")
        errors.append(np.median([evaluator(Job(0, space.recipe(row)))["error"] for row in rows]))
    assert errors[1] < 0.7 * errors[0]
    assert not shared.training
    one, again, other = (supernet(model, space, batches, epochs=1, seed=seed, **options) for seed in (0, 0, 1))
    assert torch.equal(one[0].weight, again[0].weight)
    assert not torch.equal(one[0].weight, other[0].weight)


def test_it_is_kept_by_content(batches, tmp_path: Path) -> None:
    model = network()
    space = space_of(model)
    scores, other = (score(model, space.network, name) for name in ("l1", "l2"))
    options = {"task": TASK, "settings": SETTINGS, "epochs": 1, "cache": (tmp_path, "digits")}
    first = supernet(model, space, batches, scores=scores, **options)
    # there is nothing to train on
    again = supernet(model, space, [], scores=scores, **options)
    assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    with pytest.raises(PruningError, match="batches are empty"):
        supernet(model, space, [], scores=other, **options)
    with pytest.raises(PruningError, match="batches are empty"):
        supernet(model, space, [], scores=scores, limits=Budget.parse({"flops": 0.9}), **options)
    other_loss = replace(TASK, loss=F.multi_margin_loss)
    with pytest.raises(PruningError, match="batches are empty"):
        supernet(model, space, [], scores=scores, **options | {"task": other_loss})
    with torch.no_grad():
        model[0].weight += 1
    with pytest.raises(PruningError, match="batches are empty"):
        supernet(model, space, [], scores=scores, **options)


def test_smoothing_that_a_loss_does_not_know_is_told_before_anything_is_trained() -> None:
    model = network()
    space = space_of(model)
    settings, scores = Settings(label_smoothing=0.1), score(model, space.network)
    with pytest.raises(PruningError, match=r"finetuning.label_smoothing: 0.1, allowed is 0"):
        supernet(model, space, [], task=regression(), scores=scores, settings=settings, epochs=1)


def test_models_with_attention_and_blocks() -> None:
    from explorer import models

    torch.manual_seed(0)
    model = models.build("vit_digits")
    space = PruningSpace.from_config(trace(model, torch.zeros(1, 1, 8, 8)), named_space("mixed"))
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8)
    options = {"task": TASK, "scores": score(model, space.network), "settings": Settings("adamw", 0.001)}
    shared = supernet(model, space, [(x, y)], epochs=2, **options)
    assert all(bool(value.isfinite().all()) for value in shared.parameters())
