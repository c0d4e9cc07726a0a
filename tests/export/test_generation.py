"""Pruned language models generate, with a cache and without, the tokens of the masked network; also when loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.export.files import save
from explorer.export.huggingface import standalone
from explorer.pruning.criteria import score
from explorer.pruning.pruner import Pruner
from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from explorer.tracing.verification.masking import masked
from spaces import PruningError, Recipe
from tests.support import foreign
from tests.support.language import llama

pytestmark = pytest.mark.skipif(foreign.missing("transformers"), reason="no transformers")
# as torchvision asks for when transformers imports it
OPERATORS = foreign.declare_operators()

PROMPT = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
HALVED = {"granularity": "element", "per": "output", "ratio": 0.5}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    # tied embeddings, as small models have them
    llama(path, layers=3, tie_word_embeddings=True)
    return path


@pytest.fixture(scope="module")
def pruner(folder: Path) -> Pruner:
    model = explorer.models.transformers(architecture=str(folder), task="causal-lm", pretrained=True)
    network = trace(model, {"input_ids": PROMPT})
    return Pruner(model, network, score(model, network))


def tokens(model: Any, *, cache: bool) -> Tensor:
    mask = torch.ones_like(PROMPT)
    return model.generate(PROMPT, attention_mask=mask, max_new_tokens=12, do_sample=False, use_cache=cache)


DROPPED = {
    "none": [],
    "first": ["model.layers.0"],
    "middle": ["model.layers.1"],
    "attentions": ["model.layers.0.self_attn", "model.layers.1.self_attn"],
    "MLPs": ["model.layers.0.mlp", "model.layers.2.mlp"],
    "a block and a half": ["model.layers.1", "model.layers.0.self_attn"],
}


@pytest.mark.parametrize("blocks", DROPPED.values(), ids=DROPPED)
def test_what_is_generated_is_that_of_the_masked_network(pruner: Pruner, blocks: list[str], tmp_path: Path) -> None:
    recipe = Recipe.of(
        {"model.layers.1.self_attn.q_proj": 0.5, "model.layers.2.mlp.gate_proj": 0.5, "model.embed_tokens": 0.75},
        {"model.layers.2.self_attn.o_proj": HALVED},
        blocks,
    ).canonical(pruner.network)
    module, masks = pruner(recipe)
    reference: Any = masked(pruner.model, pruner.network, pruner.kept(recipe))
    keep = masks["model.layers.2.self_attn.o_proj"][1].keep[0].T
    kept = pruner.kept(recipe)["model.embed_tokens"]
    with torch.no_grad():
        # of the residual channels that stay
        reference.get_parameter("model.layers.2.self_attn.o_proj.weight")[kept] *= keep
    for name in blocks:
        if name.count(".") == 2:
            reference.set_submodule(name, _Through(reference.get_submodule(name)))
    for name in blocks:
        if name.count(".") == 3:
            # nothing is added to the residual
            writer = "self_attn.o_proj" if name.endswith("self_attn") else "mlp.down_proj"
            torch.nn.init.zeros_(reference.get_submodule(name.rpartition(".")[0]).get_submodule(writer).weight)
    expected = tokens(reference, cache=False)
    assert expected.shape == (2, 17)
    assert torch.equal(tokens(module, cache=False), expected)
    assert torch.equal(tokens(module, cache=True), expected)
    arguments = {"architecture": str(pruner.model.config.name_or_path), "task": "causal-lm"}
    save(
        module,
        recipe,
        pruner.network,
        tmp_path,
        masks=masks,
        factory="explorer.models.transformers",
        arguments=arguments,
    )
    again = explorer.load(tmp_path)
    assert torch.equal(tokens(again, cache=True), expected)


def test_what_a_model_would_cache_is_no_output_of_it() -> None:
    model = llama(layers=1)
    assert model.config.use_cache
    units = trace(model, {"input_ids": PROMPT}).units
    assert [unit.name for unit in units] == [
        "model.embed_tokens",
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.mlp.gate_proj",
    ]
    assert model.config.use_cache


@pytest.mark.parametrize("kind", ["llama", "gemma2", "marian", "gpt2"])
def test_whichever_layers_are_left_out_padded_texts_go_on_as_with_fewer_layers(kind: str) -> None:
    """The cache is as long as what was read, though its first layer may be left out."""
    model, padded = made(kind).double(), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    example = {"input_ids": PROMPT} | ({"decoder_input_ids": PROMPT[:, :3]} if kind == "marian" else {})
    network = trace(model, example, outputs="logits")
    names = [block.name for block in network.blocks if "encoder" not in block.name and block.name[-1].isdigit()]
    assert len(names) == 3
    for left_out in (names[:1], names[:2], names[1:2]):
        small = Surgeon(model, network).build({}, left_out)
        # of transformers' own layers
        fewer = standalone(small, example)
        for cache in (True, False):
            assert torch.equal(continued(small, padded, cache=cache), continued(fewer, padded, cache=cache))
        if kind != "gemma2":
            # transformers pads sliding windows otherwise with a cache than without
            assert torch.equal(continued(small, padded, cache=True), continued(small, padded, cache=False))


@pytest.mark.parametrize("kind", ["llama", "marian"])
def test_without_attention_of_the_first_layer_padded_texts_go_on_from_the_cache(kind: str) -> None:
    model, padded = made(kind).double(), torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    example = {"input_ids": PROMPT} | ({"decoder_input_ids": PROMPT[:, :3]} if kind == "marian" else {})
    network = trace(model, example, outputs="logits")
    names = [half.name for half in network.droppable if "encoder" not in half.name]
    name = next(name for name in names if name.endswith("layers.0.self_attn"))
    small = Surgeon(model, network).build({}, [name])
    assert torch.equal(continued(small, padded, cache=True), continued(small, padded, cache=False))
    with pytest.raises(PruningError, match=f"^hf: {name} alone is left out"):
        standalone(small, example)


def continued(model: Any, mask: Tensor, *, cache: bool) -> Tensor:
    return model.generate(PROMPT, attention_mask=mask, max_new_tokens=8, do_sample=False, use_cache=cache)


def made(kind: str) -> Any:
    import transformers

    torch.manual_seed(1)
    if kind == "llama":
        return llama(layers=3)
    if kind == "gpt2":
        config: Any = transformers.GPT2Config(
            vocab_size=24, n_embd=32, n_layer=3, n_head=4, n_positions=32, eos_token_id=1
        )
        return transformers.GPT2LMHeadModel(config).eval()
    layers, heads = {"num_hidden_layers": 3}, {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
    if kind == "gemma2":
        types = ["sliding_attention", "full_attention", "sliding_attention"]
        config = transformers.Gemma2Config(
            vocab_size=24, hidden_size=32, intermediate_size=48, sliding_window=6, layer_types=types, **layers, **heads
        )
        return transformers.Gemma2ForCausalLM(config).eval()
    sides = {
        f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in (("attention_heads", 4), ("ffn_dim", 48))
    }
    config = transformers.MarianConfig(
        vocab_size=24,
        decoder_vocab_size=24,
        d_model=32,
        encoder_layers=1,
        decoder_layers=3,
        max_position_embeddings=32,
        pad_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_eos_token_id=2,
        **sides,
    )
    return transformers.MarianMTModel(config).eval()


class _Through(nn.Module):
    """Returns what a layer is given; its attributes are the layer's, which the model around it asks for."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.attention_type = getattr(layer, "attention_type", None)

    def forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        return hidden_states
