"""Costs: the polynomial equals counting the module that surgery builds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

from explorer import models
from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from spaces import Network, PruningSpace, Recipe, costs_of, dense_costs
from tests.support.identities import counted, random_kept, random_recipe
from tests.support.known import COUNTED, KNOWN, image_size
from tests.support.synthetic import SPACES, chain, space_of

RATIOS = (1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125)


def _traced(name: str) -> tuple[nn.Module, Network, torch.Tensor]:
    """Return a model without storage, its network and an example."""
    model = models.build(name).eval()
    example = torch.zeros(1, *image_size(name))
    return model.to("meta"), trace(models.build(name), example, verify=False), example.to("meta")


def _positions(model: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """Return for each layer how often its weight is used for one input; pruning does not change that."""
    found: dict[str, int] = {}

    def hook(name: str, out: torch.Tensor) -> None:
        found[name] = found.get(name, 0) + (out[0, 0].numel() if out.dim() == 4 else 1)

    handles = [
        module.register_forward_hook(lambda m, i, out, name=name: hook(name, out))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    model(example)
    for handle in handles:
        handle.remove()
    return found


def _check(name: str, recipes: int, every: int = 1) -> None:
    """Compare costs with the built module, `every` few recipes by running it under torch's own counter."""
    model, network, example = _traced(name)
    rng = np.random.default_rng(0)
    surgeon, positions = Surgeon(model, network), _positions(model, example)
    space = space_of(network, RATIOS)
    rows = space.sample(recipes, rng)
    costs = space.costs(rows)
    for i, row in enumerate(rows):
        # half of them on the grid of a space, half of any width
        recipe = space.recipe(row) if i % 2 else random_recipe(network, rng)
        small = surgeon.build(random_kept(network, recipe, rng))
        expected = counted(small, None if i % every else example)
        if i % every:
            modules = dict(small.named_modules())
            expected["flops"] = sum(modules[layer].weight.numel() * n for layer, n in positions.items())
        assert costs_of(network, recipe) == expected
        if i % 2:
            assert {metric: int(costs[metric][i]) for metric in COUNTED} == expected


@pytest.mark.parametrize("name", models.MODELS)
def test_costs_are_counted(name: str) -> None:
    _check(name, 2 if name == "resnet110" else 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", models.MODELS)
def test_costs_of_a_thousand_recipes_are_counted(name: str) -> None:
    # attention multiplies what is no weight
    _check(name, 1000, every=1 if name.startswith("vit") else 51)


@pytest.mark.parametrize("name", KNOWN)
def test_published_costs(name: str) -> None:
    _, network, _ = _traced(name)
    flops, parameters = KNOWN[name]
    costs = dense_costs(network)
    assert costs["flops"] / 1e6 == pytest.approx(flops, rel=1e-3)
    if parameters:
        assert costs["params"] / 1e6 == pytest.approx(parameters, rel=0.02)


@given(SPACES)
@settings(max_examples=40, deadline=None)
def test_rows_cost_what_recipes_cost(space: PruningSpace) -> None:
    rows = space.sample(7, np.random.default_rng(0))
    costs = space.costs(rows)
    for metric in COUNTED:
        assert costs[metric].dtype == np.int64
        assert costs[metric].tolist() == [costs_of(space.network, space.recipe(row))[metric] for row in rows]


@pytest.mark.parametrize("rows", [0, 1, 4095, 4096, 4097, 9000])
def test_any_number_of_rows(rows: int) -> None:
    space = space_of(chain([9, 7, 5, 3]), RATIOS)
    drawn = space.sample(rows, np.random.default_rng(0))
    costs = space.costs(drawn)
    assert all(len(costs[metric]) == rows for metric in COUNTED)
    for i in {0, rows // 2, rows - 1} if rows else ():
        assert {metric: int(costs[metric][i]) for metric in COUNTED} == costs_of(space.network, space.recipe(drawn[i]))


@pytest.mark.parametrize("positions", [2**44 + 1, 2**51 + 1])
def test_integers_are_exact_above_float64(positions: int) -> None:
    space = space_of(chain([31, 29, 23], positions=positions), [i / 31 for i in range(1, 32)])
    assert dense_costs(space.network)["flops"] > 2**53
    rows = space.sample(50, np.random.default_rng(0))
    for metric, values in space.costs(rows).items():
        exact = [costs_of(space.network, space.recipe(row))[metric] for row in rows]
        assert values.tolist() == exact
    # what float64 would have made of it differs, so the case can fail
    assert any(int(float(value)) != value for value in space.costs(rows)["flops"].tolist())


def test_units_without_an_axis_stay_dense() -> None:
    network = chain([8, 6, 4, 2])
    entry = {"match": "l1", "choices": [{"granularity": "filter", "ratios": [1, 0.5]}]}
    space = PruningSpace.from_config(network, {"channels": [entry]})
    costs = space.costs(np.array([[0], [1]]))
    for metric in COUNTED:
        assert costs[metric].tolist() == [
            dense_costs(network)[metric],
            costs_of(network, Recipe.of({"l1": 0.5}))[metric],
        ]


def test_dense_costs_of_a_chain_by_hand() -> None:
    assert dense_costs(chain([4, 2], positions=5)) == {"flops": 5 * (12 + 8), "params": 20, "bytes": 20 * 4 + 2 * 8}
