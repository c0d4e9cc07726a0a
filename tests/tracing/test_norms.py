"""Widths that norms, softmaxes and means run over: sliced is masked, where masked runs over what is kept."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from explorer.pruning.surgery import Kept, Surgeon
from explorer.tracing import trace
from explorer.tracing.verification.masking import masked
from spaces import Network, Reduction
from tests.support.identities import (
    assert_costs_are_counted,
    assert_sliced_is_masked,
    fresh,
    outputs,
    random_kept,
    random_recipe,
)
from tests.support.norm_models import CASES, IMG, WRONG
from tests.support.small_models import image


def _build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].build().eval()


def _network(name: str) -> Network:
    return trace(_build(name), CASES[name].example)


NETWORKS: dict[str, tuple[nn.Module, Network]] = {}


def _known(name: str) -> tuple[nn.Module, Network]:
    """Return the model in float64 with random weights, and its network."""
    if name not in NETWORKS:
        NETWORKS[name] = fresh(_build(name)), _network(name)
    return NETWORKS[name]


def _kept(network: Network, seed: int) -> Kept:
    rng = np.random.default_rng(seed)
    return random_kept(network, random_recipe(network, rng), rng)


def _halved(network: Network) -> Kept:
    """Return for every unit the last half of every group."""
    return {
        unit.name: torch.arange(unit.atoms).reshape(unit.groups, -1)[:, unit.steps // 2 :].flatten()
        for unit in network.units
    }


@pytest.mark.parametrize("name", CASES)
def test_units(name: str) -> None:
    case, network = CASES[name], _network(name)
    assert [(u.name, u.channels, u.tied, u.groups) for u in network.units] == case.units
    assert bool(network.reductions) == case.over
    assert trace(_build(name), case.example, verify=False).units == network.units
    assert Network.from_yaml(network.to_yaml()) == network


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(sorted(CASES)), st.integers(0, 2**32 - 1))
def test_sliced_is_masked(name: str, seed: int) -> None:
    model, network = _known(name)
    assert_sliced_is_masked(model, network, CASES[name].example, _kept(network, seed))


@pytest.mark.parametrize("name", CASES)
def test_costs_are_counted(name: str) -> None:
    network, rng = _known(name)[1], np.random.default_rng(0)
    for _ in range(3):
        recipe = random_recipe(network, rng)
        assert_costs_are_counted(_build(name), network, CASES[name].example, recipe, random_kept(network, recipe, rng))


@pytest.mark.parametrize("name", [name for name in CASES if CASES[name].over])
def test_statistics_over_everything_are_something_else(name: str) -> None:
    model, network = _known(name)
    kept, naive = _halved(network), replace(network, reductions=())
    for right, wrong in zip(
        *(outputs(masked(model, n, kept), CASES[name].example) for n in (network, naive)), strict=True
    ):
        assert (right - wrong).abs().max() > 1e-3 * right.abs().max()


@pytest.mark.parametrize("name", CASES)
def test_results_stand_alone(name: str) -> None:
    example, (model, network) = CASES[name].example, _known(name)
    example = example.double() if example.is_floating_point() else example
    small = Surgeon(model, network).build(_halved(network))
    expected = small(example)
    loaded = Surgeon(fresh(_build(name)), network).build(_halved(network))
    loaded.load_state_dict(small.state_dict(), strict=True)
    exported = torch.export.export(small, (example,)).module()
    for other in (loaded, copy.deepcopy(small), exported):
        torch.testing.assert_close(other(example), expected)
    small.train()(example).square().sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in small.parameters())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_models_are_fixed(name: str) -> None:
    build, words = WRONG[name]
    network = trace(build(), IMG)
    assert not network.units
    assert not network.reductions
    assert any(words in entry.reason for entry in network.fixed if entry.name == "a"), network.fixed


@pytest.mark.parametrize("name", ["layer norm", "group norm", "channel attention", "tied embedding"])
def test_masked_networks_run_as_any_module_does(name: str) -> None:
    model, network = _known(name)
    kept, example = _halved(network), CASES[name].example
    whole, small = masked(model, network, kept), Surgeon(model, network).build(kept)
    assert type(whole) is type(model)
    for batch in (example, torch.cat([example, example.flip(0), example]), example[:1]):
        for other in (whole, copy.deepcopy(whole), copy.deepcopy(copy.deepcopy(whole)), whole):
            torch.testing.assert_close(outputs(other, batch), outputs(small, batch))
    with torch.inference_mode():
        torch.testing.assert_close(outputs(whole, example), outputs(small, example))
    with pytest.raises(RuntimeError, match=r"size|shape|type"):
        whole(torch.zeros(2, 3, 5, dtype=torch.float64))
    torch.testing.assert_close(outputs(whole, example), outputs(small, example))


def test_what_is_whole_costs_nothing() -> None:
    model, network = _known("layer norm")
    assert not masked(model, network, {})._forward_hooks
    assert not masked(model, network, {"up": torch.arange(5)})._forward_hooks


def test_another_length_than_was_traced_is_said() -> None:
    model, network = _known("flattened")
    with pytest.raises(ValueError, match="_softmax runs over 800 entries, 512 when the model was traced"):
        outputs(masked(model, network, _halved(network)), image(size=10))


def test_reductions_are_found_where_they_run() -> None:
    network = _known("layer norm")[1]
    width = network.tensor["norm1.weight"].dims[0]
    assert network.reductions == tuple(
        Reduction(module, "native_layer_norm", 0, 2, width) for module in ("norm1", "norm2")
    )
    assert _known("rms norm of other devices")[1].reductions == _known("rms norm")[1].reductions
    divided = _known("mean of images by hand")[1].reductions
    assert [(entry.operator, entry.axis, entry.divisor) for entry in divided] == [("sum", 1, 0)]
