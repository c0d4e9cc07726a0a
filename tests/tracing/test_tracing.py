"""Tracing: what is tied, what is fixed and why, on a table of small patterns; never a crash, never wrong."""

from __future__ import annotations

import random
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from spaces import Network, PruningError, Recipe
from tests.support.computed_weights import COMPUTED
from tests.support.identities import (
    assert_costs_are_counted,
    assert_sliced_is_masked,
    fresh,
    random_kept,
    random_recipe,
)
from tests.support.random_models import RandomModel
from tests.support.small_models import CASES, IMG, Fn, conv, tokens
from tests.support.snapshots import changed, snapshot

RECIPES = 6
MODELS = CASES | COMPUTED


def _build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name].build().eval()


@pytest.mark.parametrize("name", MODELS)
def test_units_and_reasons(name: str) -> None:
    case = MODELS[name]
    traced = trace(_build(name), case.example, verify=False)
    network = trace(_build(name), case.example)
    assert [(u.name, u.channels, u.tied, u.groups) for u in network.units] == case.units
    assert (traced.units != network.units) == case.rescued
    for layer, words in case.fixed.items():
        assert any(words in entry.reason for entry in network.fixed if entry.name == layer), network.fixed
    assert all(entry.reason and "\n" not in entry.reason for entry in network.fixed)
    assert Network.from_yaml(network.to_yaml()) == network


@pytest.mark.parametrize("name", MODELS)
def test_sliced_is_masked_and_costs_are_counted(name: str) -> None:
    case, rng = MODELS[name], np.random.default_rng(0)
    network = trace(_build(name), case.example)
    model = fresh(_build(name), case.dtype)
    assert_costs_are_counted(_build(name), network, case.example, Recipe(), {})
    for _ in range(RECIPES if network.units else 0):
        recipe = random_recipe(network, rng)
        kept = random_kept(network, recipe, rng)
        assert_sliced_is_masked(model, network, case.example, kept)
        assert_costs_are_counted(_build(name), network, case.example, recipe, kept)


@pytest.mark.parametrize("name", MODELS)
def test_model_is_left_as_it_was(name: str) -> None:
    model = _build(name)
    for i, module in enumerate(model.modules()):
        module.training = bool(i % 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes, everything = [module.training for module in model.modules()], snapshot(model)
    trace(model, MODELS[name].example)
    assert not changed(everything, snapshot(model))
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class _Installing(nn.Module):
    """Installs hooks when it runs first, and counts its runs in its class, its configuration and Python's generator."""

    runs = 0

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 2)
        self.config, self.installed, self.seen = SimpleNamespace(runs=0, sizes=[]), False, [{"sizes": []}]
        self.generator = torch.Generator()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.installed:
            self.a.register_forward_hook(lambda m, args, out: out + 1)
            self.installed = True
        type(self).runs += 1
        self.config.runs += 1
        self.config.sizes.append(x.shape)
        self.seen[0]["sizes"].append(x.shape)
        noise = torch.randn(1, generator=self.generator).to(x) + random.random() + torch.rand(1).to(x)
        return self.b(self.a(x) + noise * np.random.random())  # noqa: NPY002


def test_everything_is_left_as_it_was() -> None:
    model = _Installing().eval()
    before = snapshot(model)
    trace(model, IMG)
    assert not changed(before, snapshot(model))
    model(IMG)
    assert len(model.a._forward_hooks) == 1
    assert any("runs" in path for path in changed(before, snapshot(model)))


def test_attributes_are_left_as_they_were() -> None:
    model = _build("moving average")
    model(IMG)
    seen = model.seen
    assert seen.requires_grad
    network = trace(model, IMG)
    assert model.seen is seen
    assert Surgeon(model, network).build({"a": torch.arange(4)})(IMG).shape == model(IMG).shape


def test_recurrent_layers_with_computed_weights() -> None:
    rnn = torch.nn.utils.parametrizations.weight_norm(nn.GRU(4, 4, batch_first=True), "weight_hh_l0")
    model = Fn(lambda m, x: m.b(m.rnn(m.a(x))[0]), a=nn.Linear(6, 4), rnn=rnn, b=nn.Linear(4, 2))
    network = trace(model, tokens(6))
    assert [unit.name for unit in network.units] == ["a"]
    assert_sliced_is_masked(model.requires_grad_(False), network, tokens(6), {"a": torch.tensor([0, 2])})


def test_inference_mode_makes_no_difference() -> None:
    with torch.inference_mode():
        network = trace(_build("attention"), CASES["attention"].example)
    assert network == trace(_build("attention"), CASES["attention"].example)


@pytest.mark.parametrize(
    ("options", "units"),
    [
        ({}, [("embed", 8, 1, 1), ("rnn.weight_ih_l0", 24, 4, 1)]),
        ({"num_layers": 2, "bidirectional": True, "bias": False}, [("embed", 8, 1, 1), ("rnn.weight_ih_l0", 24, 4, 1)]),
        ({"proj_size": 4}, [("embed", 8, 1, 1)]),
    ],
)
def test_lstm(options: dict[str, Any], units: list[tuple[str, int, int, int]]) -> None:
    # torch's counter does not know the kernel that runs an LSTM in float32
    rnn = nn.LSTM(8, 6, batch_first=True, **options)
    width = rnn(torch.zeros(1, 1, 8))[0].size(-1)
    model = Fn(lambda m, x: m.head(m.rnn(m.embed(x))[0]), embed=nn.Linear(6, 8), rnn=rnn, head=nn.Linear(width, 3))
    network, rng = trace(model, tokens(6)), np.random.default_rng(0)
    assert [(u.name, u.channels, u.tied, u.groups) for u in network.units] == units
    for length in (1, 5, 9):
        kept = random_kept(network, random_recipe(network, rng), rng)
        assert_sliced_is_masked(fresh(model), network, tokens(6, length), kept)
        small = Surgeon(model, network).build(kept)
        assert small.rnn.input_size == len(kept["embed"])
        # the fused kernel computes what the products do
        torch.testing.assert_close(small(tokens(6)), small.double()(tokens(6).double()).float(), rtol=1e-4, atol=1e-4)


def test_frozen_parameters_make_no_difference() -> None:
    for name in ("chain", "dense blocks", "gate", "attention"):
        frozen = _build(name).requires_grad_(False)
        assert trace(frozen, MODELS[name].example) == trace(_build(name), MODELS[name].example)


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batch_makes_no_difference(batch: int) -> None:
    for name in ("chain", "squeeze-excite", "flatten before linear", "option A in a leaf", "attention"):
        example = torch.zeros(batch, *MODELS[name].example.shape[1:])
        assert trace(_build(name), example) == trace(_build(name), MODELS[name].example)


def _check_random(seeds: range) -> int:
    """Check networks nobody thought of; return how many units they have."""
    units, example = 0, torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for seed in seeds:
        model, rng = RandomModel(seed).eval(), np.random.default_rng(seed)
        network, precise = trace(model, example), fresh(model)
        units += len(network.units)
        for _ in range(10 if network.units else 1):
            recipe = random_recipe(network, rng)
            kept = random_kept(network, recipe, rng)
            assert_sliced_is_masked(precise, network, example, kept)
            assert_costs_are_counted(model, network, example, recipe, kept)
    return units


def test_random_networks() -> None:
    assert _check_random(range(60)) > 30


@pytest.mark.slow
def test_many_random_networks() -> None:
    assert _check_random(range(60, 1000)) > 500


def _raises(message: str) -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        raise ValueError(message)

    return Fn(forward, a=conv(3, 8))


@pytest.mark.parametrize(
    ("model", "example", "words"),
    [
        (_raises("not\nso"), IMG, "ValueError on the example input (not)"),
        (conv(3, 8), torch.zeros(1, 4, 8, 8), "RuntimeError on the example input"),
        (nn.Linear(4, 2), torch.zeros(1, 5), "RuntimeError on the example input"),
        (conv(3, 8), {"image": IMG}, "TypeError on the example input"),
        (conv(3, 8), (), "no tensor"),
        (nn.LazyConv2d(8, 3), IMG, "lazy layers"),
        (torch.compile(conv(3, 8)), IMG, "model: it is compiled"),
        (nn.Sequential(conv(3, 8), torch.compile(nn.ReLU())), IMG, "model: 1 is compiled"),
        (torch.jit.script(conv(3, 8)), IMG, "it is scripted"),
        (torch.export.export(conv(3, 8), (IMG,)).module(), IMG, "it is exported"),
        (conv(3, 8), torch.tensor(1.0), "no tensor with a batch"),
        (conv(3, 8), IMG[:0], "no tensor with a batch"),
        (Fn(lambda m, x: None, a=conv(3, 8)), IMG, "returned NoneType without a tensor"),
    ],
)
def test_mistakes_are_one_line(model: nn.Module, example: Any, words: str) -> None:
    with pytest.raises(PruningError, match=re.escape(words)) as caught:
        trace(model, example)
    assert str(caught.value).startswith("model: ")
    assert "\n" not in str(caught.value)


def test_units_are_verified_on_other_inputs_where_they_are_given() -> None:
    seen: set[int] = set()

    def forward(m: Any, x: Tensor) -> Tensor:
        seen.add(x.size(1))
        return m.b(F.relu(m.a(x)))

    model = Fn(forward, a=nn.Linear(8, 6), b=nn.Linear(6, 3))
    example, short = torch.randn(1, 16, 8), torch.randn(1, 4, 8)
    whole = trace(model, example)
    assert seen == {16}
    assert trace(model, example, checked_on=[short]) == whole
    assert seen == {16, 4}
    # and nothing at all is verified without
    seen.clear()
    assert trace(model, example, checked_on=[short], verify=False) == whole
    assert seen == {16}
