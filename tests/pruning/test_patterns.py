"""Patterns on modules: put on, held while they train, counted, exported and loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

import explorer
from explorer.analysis.plots import comparison_data, comparison_figure
from explorer.models import build
from explorer.pruning.criteria import score
from explorer.pruning.patterns import Masks, gemm_of, make_masks, put_on, realised_costs
from explorer.pruning.ranking import Ranking
from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from explorer.utils.space_section import named_space
from spaces import PATTERNS, Network, PruningError, PruningSpace, Recipe, costs_of, dense_costs
from tests.support.identities import fresh

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
SIZES = {"block": {"height": 8, "width": 8}, "tile": {"width": 8}, "tile_element": {"width": 8}}
MODELS = ["resnet20", "mobilenet_v2"]


@pytest.fixture(scope="module", params=MODELS)
def traced(request: pytest.FixtureRequest) -> tuple[nn.Module, Network]:
    model = fresh(build(request.param), torch.float32)
    return model, trace(model, X[:1], verify=False, name=request.param)


def uniform(network: Network, granularity: str, ratio: float) -> Recipe:
    """Return the recipe with one pattern on every layer that can have it."""
    choice = {"granularity": granularity, **SIZES.get(granularity, {})}
    choice |= {"n": 1, "m": 2} if granularity == "vector" else {"ratios": [ratio]}
    return PruningSpace.from_config(network, {"weights": [{"match": "*", "choices": [choice]}]})[0]


def pruned(model: nn.Module, network: Network, recipe: Recipe) -> tuple[nn.Module, Masks]:
    scores, surgeon = score(model, network), Surgeon(model, network)
    kept = Ranking(network, scores.channels).kept(recipe)
    module = surgeon.build(kept, recipe.blocks)
    masks = make_masks(surgeon, recipe, kept, scores.weights)
    put_on(module, network, masks)
    return module.eval(), masks


def test_wanda_per_output_is_the_published_one() -> None:
    x = torch.randn(64, 10, generator=torch.Generator().manual_seed(1))
    model = fresh(nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 4)), torch.float32)
    network = trace(model, x[:1])
    scores = score(model, network, "wanda", batches=[(x, None)])
    recipe = Recipe.of(weights={"0": {"granularity": "element", "per": "output", "ratio": 0.5}})
    masks = make_masks(Surgeon(model, network), recipe, Ranking(network, scores.channels).kept(recipe), scores.weights)
    # lib/prune.py of Sun et al.: of each row of the weight those of the least products go
    metric = model[0].weight.abs() * x.square().mean(0).sqrt()
    gone = metric.argsort(dim=-1, stable=True)[:, :5]
    expected = torch.ones(6, 10, dtype=torch.bool).scatter_(1, gone, False)
    assert torch.equal(masks["0"][1].keep[0].T, expected)
    realised, nominal = realised_costs(network, recipe, masks), costs_of(network, recipe)
    assert {f"{cost}_realised" for cost in ("flops", "params", "bytes")} <= realised.keys()
    assert all(realised[f"{cost}_realised"] == nominal[cost] for cost in ("flops", "params", "bytes"))


def mixed(network: Network, seed: int = 0) -> Recipe:
    space = PruningSpace.from_config(network, named_space("mixed"))
    return space.recipe(space.sample(1, np.random.default_rng(seed), "axes")[0])


@pytest.mark.parametrize("granularity", PATTERNS)
def test_what_is_zero_is_what_was_promised(traced: tuple[nn.Module, Network], granularity: str) -> None:
    model, network = traced
    recipe = uniform(network, granularity, 0.4)
    module, masks = pruned(model, network, recipe)
    nominal, realised, dense = costs_of(network, recipe), realised_costs(network, recipe, masks), dense_costs(network)
    zeros = sum(int((p == 0).sum()) for p in module.parameters())
    assert realised["params_realised"] == dense["params"] - zeros
    exact = granularity in ("element", "vector", "kernel")
    for cost in ("flops", "params", "bytes"):
        if exact:
            assert realised[f"{cost}_realised"] == nominal[cost]
        assert abs(realised[f"{cost}_realised"] - nominal[cost]) < 0.02 * dense[cost]
    flops = dense["flops"]
    for name, (_, mask) in masks.items():
        kept = gemm_of(network, network.layer[name], module.get_parameter(network.layer[name].weight)) != 0
        assert torch.equal(kept, mask.keep)
        flops -= network.layer[name].positions * int((~kept).sum())
    assert realised["flops_realised"] == flops


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_training_keeps_zeros_and_moves_the_rest(optimiser: str) -> None:
    model = build("resnet_digits")
    network = trace(model, torch.zeros(1, 1, 8, 8), verify=False)
    recipe = uniform(network, "tile_element", 0.4)
    module, masks = pruned(model, network, recipe)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    make = {
        "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True),
        "adamw": lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    }[optimiser]
    steps = make(module.parameters())
    module.train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        x, y = torch.randn(16, 1, 8, 8, generator=generator), torch.randint(10, (16,), generator=generator)
        steps.zero_grad()
        F.cross_entropy(module(x), y).backward()
        steps.step()
    for name, (_, mask) in masks.items():
        weight = gemm_of(network, network.layer[name], module.get_parameter(network.layer[name].weight).detach())
        assert not weight[~mask.keep].any()
        old = gemm_of(network, network.layer[name], before[network.layer[name].weight])
        assert (weight != old)[mask.keep].float().mean() > 0.99


def test_a_frozen_weight_that_is_thawed_keeps_its_zeros() -> None:
    model = build("resnet_digits").requires_grad_(False)
    network = trace(model, torch.zeros(1, 1, 8, 8), verify=False)
    module, masks = pruned(model, network, uniform(network, "element", 0.4))
    assert not any(p.requires_grad for p in module.parameters())
    module.requires_grad_(True)
    steps = torch.optim.SGD(module.parameters(), 0.1)
    module(torch.randn(4, 1, 8, 8)).square().mean().backward()
    steps.step()
    for name, (_, mask) in masks.items():
        weight = gemm_of(network, network.layer[name], module.get_parameter(network.layer[name].weight).detach())
        assert not weight[~mask.keep].any()


def test_half_precision_is_scored_in_single() -> None:
    layer = nn.Linear(64, 64)
    network = trace(nn.Sequential(nn.Linear(64, 64), layer), torch.zeros(1, 64), verify=False)
    model = nn.Sequential(nn.Linear(64, 64), layer)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 1e-4).view(-1)[0] = 300
    model = model.half()
    recipe = Recipe.of(weights={"1": {"granularity": "element", "ratio": 0.5}})
    mask = make_masks(Surgeon(model, network), recipe, {}, score(model, network, "l2").weights)["1"][1].keep
    size = gemm_of(network, network.layer["1"], layer.weight.detach().abs())
    assert size[mask].min() >= size[~mask].max()


def test_patterns_come_after_channels_and_blocks(traced: tuple[nn.Module, Network]) -> None:
    model, network = traced
    for seed in range(3):
        recipe = mixed(network, seed)
        module, masks = pruned(model, network, recipe)
        assert masks.keys() == recipe.patterns.keys()
        with torch.no_grad():
            assert torch.isfinite(module(X)).all()
        realised = realised_costs(network, recipe, masks)
        stored = sum(int((p != 0).sum()) for p in module.parameters() if p.dim() > 1)
        stored += sum(p.numel() for p in module.parameters() if p.dim() == 1)
        assert realised["params_realised"] == stored


def test_export_writes_the_bytes_it_promises_and_loads_the_same(
    traced: tuple[nn.Module, Network], tmp_path: Path
) -> None:
    model, network = traced
    for seed in range(2):
        recipe = mixed(network, seed)
        module, masks = pruned(model, network, recipe)
        folder = tmp_path / str(seed)
        explorer.save(module, recipe, network, folder, masks=masks, factory=f"explorer.models.{network.name}")
        tensors = load_file(folder / "weights.safetensors")
        # the index maps of sliced shortcuts are surgery's own, and made again at load
        written = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        assert written == realised_costs(network, recipe, masks)["bytes_realised"]
        loaded = explorer.load(folder)
        for name, value in module.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
        with torch.no_grad():
            torch.testing.assert_close(loaded(X), module(X))
            fast = explorer.load(folder, example=X)
            torch.testing.assert_close(fast(X), module(X), rtol=1e-4, atol=1e-4)


def test_a_loaded_network_keeps_its_zeros(tmp_path: Path) -> None:
    model = build("resnet_digits")
    network = trace(model, torch.zeros(1, 1, 8, 8), verify=False)
    recipe = uniform(network, "vector", 0.5)
    module, masks = pruned(model, network, recipe)
    explorer.save(module, recipe, network, tmp_path, masks=masks, factory="explorer.models.resnet_digits")
    code = f"""
import torch, explorer
module = explorer.load({str(tmp_path)!r}).train()
zeros = {{name: p == 0 for name, p in module.named_parameters()}}
steps = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
for _ in range(2):
    steps.zero_grad()
    module(torch.randn(8, 1, 8, 8)).square().mean().backward()
    steps.step()
assert all((p[zeros[name]] == 0).all() for name, p in module.named_parameters() if p.dim() > 1)
print("held")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "held", done.stderr


def test_an_export_is_of_the_canonical_recipe(tmp_path: Path) -> None:
    model = fresh(build("resnet20"), torch.float32)
    network = trace(model, X[:1], verify=False)
    pattern = {"granularity": "element", "ratio": 0.5}
    recipe = Recipe.of({"layer1.1.conv1": 0.5}, {"layer1.1.conv2": pattern, "layer3.2.conv2": pattern}, ["layer1.1"])
    module, masks = pruned(model, network, recipe.canonical(network))
    explorer.save(module, recipe, network, tmp_path, masks=masks, factory="explorer.models.resnet20")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe.canonical(network)
    with torch.no_grad():
        torch.testing.assert_close(explorer.load(tmp_path)(X), module(X))


def test_a_pattern_without_a_mask_is_not_exported(traced: tuple[nn.Module, Network], tmp_path: Path) -> None:
    model, network = traced
    recipe = uniform(network, "element", 0.5)
    with pytest.raises(PruningError, match="masks: none for"):
        explorer.save(model, recipe, network, tmp_path, factory="explorer.models.resnet20")
    assert not list(tmp_path.iterdir())


def test_comparison_shows_theory_beside_the_machine() -> None:
    points = pd.DataFrame(
        {
            "granularity": ["tile", "element", "tile"],
            "error": [0.1, 0.05, 0.2],
            "flops_ratio": [0.5, 0.5, 0.25],
            "latency_batch_ratio": [0.7, np.nan, 0.5],
        }
    )
    data = comparison_data(points)
    theory, machine = (data[data["cost"] == cost] for cost in ("flops_ratio", "latency_batch_ratio"))
    assert theory["x"].tolist() == [0.5, 0.5, 0.25]
    assert machine["x"].tolist() == [0.7, 0.5]
    assert machine["error"].tolist() == pytest.approx([0.1, 0.2])
    figure = comparison_figure(points, 0.03)
    assert len(figure.axes) == 2
    assert len(comparison_figure(points.drop(columns="latency_batch_ratio"), 0.03).axes) == 1
    # where the granularity is one, criteria are told apart
    criteria = points.assign(granularity="filter", criterion=["l1", "wanda", "l1"])
    assert comparison_data(criteria)["series"].tolist() == ["l1", "wanda", "l1", "l1", "l1"]
    labels = {text.get_text() for text in comparison_figure(criteria, 0.03).legends[0].get_texts()}
    assert labels == {"l1", "wanda", "dense network"}
