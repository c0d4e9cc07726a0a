"""Memory of language models: keys and values counted are those that the built networks hold."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from explorer.pruning.criteria import score
from explorer.pruning.pruner import Pruner
from explorer.tracing import trace
from spaces import COSTS, Budget, CostModel, Network, PruningError, PruningSpace, Recipe, costs_of, sample_inside
from tests.support import foreign
from tests.support.identities import counted

pytestmark = pytest.mark.skipif(foreign.missing("transformers"), reason="no transformers")
# as torchvision asks for when transformers imports it
OPERATORS = foreign.declare_operators()

_COMMON = {"hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 24, "bos_token_id": 1, "eos_token_id": 1}
_GROUPED = {**_COMMON, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 24}
DECODERS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    # no more than seven tokens of a window of eight are held
    "mistral": {**_GROUPED, "sliding_window": 8},
    "mixtral": {**_GROUPED, "num_local_experts": 3, "num_experts_per_tok": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "vocab_size": 24, "bos_token_id": 1, "eos_token_id": 1},
    # one key and one value that all heads share
    "falcon": {**_COMMON, "num_attention_heads": 4},
}
TOKENS = {"input_ids": torch.arange(16)[None] + 2}


def decoder(name: str) -> nn.Module:
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[name](**DECODERS[name])).eval()


def spaced(network: Network) -> PruningSpace:
    """Return the space of a network's channels, blocks and half-blocks."""
    thirds = [{"granularity": "filter", "ratios": [1, 0.75, 0.5]}]
    layers = [{"granularity": "layer", "ratios": [1, 0]}]
    blocks = [{"match": "*", "choices": layers, "halves": True}]
    return PruningSpace.from_config(network, {"channels": [{"match": "*", "choices": thirds}], "blocks": blocks})


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("context", [(1, 16), (3, 5)])
def test_memory_is_what_built_networks_hold(name: str, context: tuple[int, int]) -> None:
    model = decoder(name)
    network = trace(model, TOKENS, context=context, outputs="logits")
    assert network.context == context
    assert Network.from_yaml(network.to_yaml()) == network
    space, pruner = spaced(network), Pruner(model, network, score(model, network))
    assert counted(model, context=context)["memory"] == space.dense["memory"]
    for row in space.sample(6, np.random.default_rng(0), measure="axes"):
        recipe = space.recipe(row)
        assert costs_of(network, recipe)["memory"] == counted(pruner(recipe)[0], context=context)["memory"], recipe
        assert int(space.costs(row[None])["memory"][0]) == costs_of(network, recipe)["memory"]


def test_the_context_is_by_default_the_example_and_has_a_budget() -> None:
    network = trace(decoder("llama"), TOKENS)
    assert network.context == (1, 16)
    space = spaced(network)
    least, most = space.bounds["memory"]
    assert least < most == space.dense["memory"]
    rows = sample_inside(space, 20, np.random.default_rng(0), budget=Budget.parse({"memory": 0.7})).rows
    assert (space.costs(rows)["memory"] <= 0.7 * space.dense["memory"]).all()


def test_patterns_make_no_cache_smaller() -> None:
    network = trace(decoder("llama"), TOKENS)
    halves = [{"granularity": "vector", "n": 2, "m": 4}]
    space = PruningSpace.from_config(network, {"weights": [{"match": "*_proj", "choices": halves}]})
    costs = costs_of(network, space[0])
    assert 0 < costs["memory"] - costs["bytes"] == space.dense["memory"] - space.dense["bytes"]
    whole = {name: int(values[0]) for name, values in CostModel(network, space.axes)(space.rows(0, 1)).items()}
    assert whole == costs


def test_other_networks_have_no_memory() -> None:
    network = trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.zeros(1, 4))
    assert set(costs_of(network, Recipe())) == set(COSTS) - {"memory"}
    assert "context" not in network.to_yaml()
    space = PruningSpace.from_config(
        network, {"channels": [{"match": "*", "choices": [{"granularity": "filter", "ratios": [1, 0.5]}]}]}
    )
    with pytest.raises(PruningError, match=r"budget: memory is none of this network.*allowed: flops, params, bytes"):
        sample_inside(space, 1, np.random.default_rng(0), budget=Budget.parse({"memory": 0.5}))


def test_what_is_held_beside_keys_and_values_is_said(caplog: pytest.LogCaptureFixture) -> None:
    from transformers.cache_utils import DynamicLayer

    class Other(DynamicLayer):
        def update(self, *states: Any, **more: Any) -> Any:
            self.states = states[0]
            return super().update(*states, **more)

    model = decoder("llama")
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr("transformers.cache_utils.DYNAMIC_LAYER_TYPE_MAPPING", {"full_attention": Other})
        network = trace(model, TOKENS, verify=False)
    assert network.caches == ()
    assert "memory: the model holds other tensors than keys and values" in caplog.text
