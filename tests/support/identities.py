"""Identities that hold for every model and recipe, shared by the tests of tracing, costs and surgery."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm

from explorer.pruning.surgery import ChannelSlice, Kept, Surgeon
from explorer.tracing.tape import tensors_in
from explorer.tracing.verification.masking import masked
from explorer.tracing.verification.random_weights import randomised
from explorer.utils.modules import run
from spaces import ChannelUnit, Network, Recipe, costs_of
from spaces.granularity import kept_steps
from tests.support.counter import Counter


def random_atoms(unit: ChannelUnit, steps: int, rng: np.random.Generator) -> Tensor:
    """Return sorted atoms, `steps` of every group."""
    size = unit.atoms // unit.groups
    picks = [group * size + np.sort(rng.permutation(size)[:steps]) for group in range(unit.groups)]
    return torch.from_numpy(np.concatenate(picks))


def random_recipe(network: Network, rng: np.random.Generator) -> Recipe:
    """Return a recipe of any widths."""
    return Recipe.of({unit.name: int(rng.integers(1, unit.steps + 1)) / unit.steps for unit in network.units})


def random_kept(network: Network, recipe: Recipe, rng: np.random.Generator) -> Kept:
    """Return random atoms of the widths that `recipe` asks for."""
    steps = {name: kept_steps(ratio, network.unit[name].steps) for name, ratio in recipe.channels}
    return {name: random_atoms(network.unit[name], count, rng) for name, count in steps.items()}


def fresh(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return an eval copy with random parameters and statistics."""
    return randomised(copy.deepcopy(model).eval().to(dtype), torch.Generator().manual_seed(1))


def outputs(model: nn.Module, example: Any) -> list[Tensor]:
    """Return the tensors that the model makes of the example, as if the model were float64."""
    parameter = next(model.parameters(), torch.empty(0))

    def cast(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        return leaf.to(parameter.device, parameter.dtype if leaf.is_floating_point() else leaf.dtype, copy=True)

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        return tensors_in(run(model, torch.utils._pytree.tree_map(cast, example)))


def assert_sliced_is_masked(model: nn.Module, network: Network, example: Any, kept: Kept) -> None:
    """Check that both ways of removing channels compute the same."""
    close = 1e-9 if next(model.parameters()).dtype == torch.float64 else 1e-4
    expected = outputs(masked(model, network, kept), example)
    got = outputs(Surgeon(model, network).build(kept), example)
    assert len(expected) == len(got) > 0
    for a, b in zip(expected, got, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(
            b.double(), a.double(), rtol=0, atol=close * max(1e-30, float(a.double().abs().max()))
        )


def counted(model: nn.Module, example: Any = None, context: tuple[int, int] | None = None) -> dict[str, int]:
    """Return parameters and bytes counted on the module itself, FLOPs by a counter of our own, and memory.

    FLOPs need an example; memory needs the sequences and tokens whose keys and values are held.
    """
    # surgery's own index maps are not the network's
    maps = {id(t) for m in model.modules() if isinstance(m, ChannelSlice) for t in (m.spread, m.keep)}
    state = {id(t): t for t in (*model.parameters(), *model.buffers())}
    weights = sum(t.numel() * t.element_size() for key, t in state.items() if key not in maps)
    found = {
        "flops": _flops(model, example) if example is not None else 0,
        "params": sum(p.numel() for p in model.parameters()),
        "bytes": weights,
    }
    return found if context is None else {**found, "memory": weights + _cached(model, context)}


def _cached(model: nn.Module, context: tuple[int, int]) -> int:
    """Return the bytes of the keys and values after a run over a context."""
    cache = model(torch.ones(context, dtype=torch.long), use_cache=True).past_key_values
    cached = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values) if tensor is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in cached)


def _flops(model: nn.Module, example: Any) -> int:
    batch = next(leaf for leaf in torch.utils._pytree.tree_leaves(example) if isinstance(leaf, Tensor)).size(0)
    model.eval()
    # fused attention has no count of its own
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    # the counter fails on a parameter that is given to a module
    learnt = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learnt:
        parameter.requires_grad_(False)
    with Counter() as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        outputs(model, example)
    torch.backends.mha.set_fastpath_enabled(fastpath)
    for parameter in learnt:
        parameter.requires_grad_(True)
    return (counter.total - _of_parametrizations(model)) // batch


def _of_parametrizations(model: nn.Module) -> int:
    """Return the multiply-adds of computing weights, which are none of the inputs'."""
    with Counter() as counter, torch.no_grad():
        for module in model.modules():
            for name in getattr(module, "parametrizations", {}):
                getattr(module, name)
            for hook in module._forward_pre_hooks.values():
                if isinstance(hook, SpectralNorm):
                    hook(module, ())
    return counter.total


def assert_costs_are_counted(model: nn.Module, network: Network, example: Any, recipe: Recipe, kept: Kept) -> None:
    """Check the cost polynomial against the module that surgery builds."""
    small = Surgeon(model, network).build(kept)
    assert costs_of(network, recipe) == counted(small, example, network.context if network.caches else None)
