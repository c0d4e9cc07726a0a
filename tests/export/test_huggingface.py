"""Sub-networks as transformers' own: their configurations say their widths, folders load without this package."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.bench.zoo import LIBRARIES
from explorer.candidate import Candidate
from explorer.export.huggingface import save_huggingface, standalone
from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from explorer.utils.modules import run
from spaces import PruningError, Recipe
from tests.support import foreign
from tests.support.identities import random_kept
from tests.support.language import llama, tokenizer

pytestmark = pytest.mark.skipif(foreign.missing("transformers"), reason="no transformers")
# as torchvision asks for when transformers imports it
OPERATORS = foreign.declare_operators()

TOKENS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
PAIR = {"input_ids": TOKENS, "decoder_input_ids": TOKENS[:, :3]}
TEXT = {"vocab_size": 24, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SEQUENCES = {"vocab_size": 24, "d_model": 32, "max_position_embeddings": 16, "pad_token_id": 1, "bos_token_id": 0}
SEQUENCES |= {"eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
SEQUENCES |= {
    f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in (("layers", 2), ("ffn_dim", 48))
}
SEQUENCES |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
IMAGES = {**TEXT, "image_size": 16, "patch_size": 8}
DECODER = {**TEXT, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2}
GPT2 = {
    "vocab_size": 24,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 16,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
T5 = {
    "vocab_size": 24,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
MIXTURE = {**DECODER, "num_local_experts": 4, "num_experts_per_tok": 2}

INNER, HEADS, WIDTH = (
    ("*intermediate*", "*lin1", "*fc*", "*gate*", "*wi"),
    ("*q_proj", "*.query", "*q_lin", "*c_attn", "*.q"),
    ("*",),
)
# class, configuration, its input, globs of the units that are halved, and the numbers that say so
CASES = {
    "bert": (
        "BertForSequenceClassification",
        TEXT,
        TOKENS,
        WIDTH,
        {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2},
    ),
    "bert: inner": ("BertForSequenceClassification", TEXT, TOKENS, INNER, {"intermediate_size": 24}),
    "distilbert": (
        "DistilBertForSequenceClassification",
        {"vocab_size": 24, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 16},
        TOKENS,
        WIDTH,
        {"dim": 16, "n_heads": 2, "hidden_dim": 24},
    ),
    "llama": (
        "LlamaForCausalLM",
        DECODER,
        TOKENS,
        WIDTH,
        {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1},
    ),
    "llama: heads": (
        "LlamaForCausalLM",
        DECODER,
        TOKENS,
        HEADS,
        {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
    ),
    "gpt2": ("GPT2LMHeadModel", GPT2, TOKENS, WIDTH, {"n_embd": 16, "n_head": 2}),
    "gpt2: inner": ("GPT2LMHeadModel", GPT2, TOKENS, INNER, {"n_embd": 32, "n_inner": 64}),
    "vit: heads": (
        "ViTForImageClassification",
        IMAGES,
        torch.ones(1, 3, 16, 16),
        HEADS,
        {"num_attention_heads": 2, "head_dim": 8},
    ),
    "t5": (
        "T5ForConditionalGeneration",
        T5,
        PAIR,
        (*HEADS, *INNER),
        {"d_model": 32, "d_kv": 8, "num_heads": 2, "d_ff": 24},
    ),
    "bart": (
        "BartForConditionalGeneration",
        SEQUENCES,
        PAIR,
        ("model.decoder*fc1",),
        {"encoder_ffn_dim": 48, "decoder_ffn_dim": 24},
    ),
    "mixtral: heads": (
        "MixtralForCausalLM",
        MIXTURE,
        TOKENS,
        HEADS,
        {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8},
    ),
}


def made(kind: str, config: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return LIBRARIES["kinds"](architecture=kind, config=dict(config), **{"class": f"transformers.{kind}"}).eval()


def built(model: Any, example: Any, globs: Any, *, ratio: float = 0.5, blocks: tuple[str, ...] = ()) -> Any:
    """Return a sub-network of which the units of some globs keep a ratio, of any of their channels."""
    network = trace(model, example, outputs="logits")
    units = [unit.name for unit in network.units if any(Path(unit.name).match(glob) for glob in globs)]
    recipe = Recipe.of(dict.fromkeys(units, ratio))
    return Surgeon(model, network).build(random_kept(network, recipe, np.random.default_rng(0)), blocks)


def logits(model: Any, example: Any) -> Tensor:
    with torch.no_grad():
        return run(model, example).logits


@pytest.mark.parametrize("name", CASES)
def test_a_configuration_says_uniform_widths_and_the_folder_loads(name: str, tmp_path: Path) -> None:
    import transformers

    kind, config, example, globs, expected = CASES[name]
    model = made(kind, config)
    small = built(model, example, globs)
    save_huggingface(small, tmp_path, example)
    again = getattr(transformers, kind).from_pretrained(tmp_path).eval()
    assert {key: getattr(again.config, key) for key in expected} == expected
    torch.testing.assert_close(logits(again, example), logits(small, example), rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in again.parameters()) == sum(p.numel() for p in small.parameters())
    assert sum(p.numel() for p in again.parameters()) < sum(p.numel() for p in model.parameters())
    # the sub-network itself is as it was
    assert small.config.to_dict() == model.config.to_dict()


@pytest.mark.parametrize(
    ("kind", "config", "globs", "message"),
    [
        (
            "BertForSequenceClassification",
            TEXT,
            ("*layer.0.intermediate.dense",),
            r"BertConfig has one intermediate_size, and the sub-network needs 48 in bert.encoder.layer.1.intermediate."
            r"dense \(and 1 more\), 24 in bert.encoder.layer.0.intermediate.dense \(and 1 more\); space.tie",
        ),
        (
            "BertForSequenceClassification",
            TEXT,
            HEADS,
            "BertConfig has one hidden_size, and the sub-network needs 32 in",
        ),
        ("GPT2LMHeadModel", GPT2, ("*h.0.mlp.c_fc",), "GPT2Config has one n_inner, and the sub-network needs 128 in"),
        # whose embeddings are scaled by the width
        ("T5ForConditionalGeneration", T5, WIDTH, "T5Config makes computes something else .outputs differ by"),
    ],
)
def test_what_a_configuration_can_t_say_is_one_line(
    kind: str, config: Any, globs: Any, message: str, tmp_path: Path
) -> None:
    example = PAIR if kind.startswith("T5") else TOKENS
    small = built(made(kind, config), example, globs)
    with pytest.raises(PruningError, match=f"^hf: (a model that )?{message}") as caught:
        save_huggingface(small, tmp_path / "hf", example)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "hf").exists()


def test_layers_that_are_left_out_are_not_there() -> None:
    model = llama(layers=4)
    small = built(model, TOKENS, INNER, blocks=("model.layers.0", "model.layers.2"))
    plain = standalone(small, TOKENS)
    assert (len(plain.model.layers), plain.config.num_hidden_layers) == (2, 2)
    assert [layer.self_attn.layer_idx for layer in plain.model.layers] == [0, 1]
    assert torch.equal(plain.model.layers[1].mlp.up_proj.weight, small.model.layers[3].mlp.up_proj.weight)
    torch.testing.assert_close(logits(plain, TOKENS), logits(small, TOKENS))


def test_what_layers_are_goes_with_those_that_stay() -> None:
    config = {**DECODER, "head_dim": 8, "num_hidden_layers": 3, "sliding_window": 4}
    config["layer_types"] = ["full_attention", "sliding_attention", "full_attention"]
    small = built(made("Gemma2ForCausalLM", config), TOKENS, (), blocks=("model.layers.0",))
    plain = standalone(small, TOKENS)
    assert plain.config.layer_types == ["sliding_attention", "full_attention"]
    torch.testing.assert_close(logits(plain, TOKENS), logits(small, TOKENS))


def test_numbers_that_a_configuration_refuses_are_one_line(tmp_path: Path) -> None:
    # two of three groups of keys and values, so that the heads left do not divide the width
    config = {**DECODER, "hidden_size": 48, "num_attention_heads": 12, "num_key_value_heads": 6}
    small = built(made("LlamaForCausalLM", config), TOKENS, HEADS, ratio=5 / 6)
    with pytest.raises(
        PruningError, match=r"^hf: LlamaConfig refuses .*hidden size \(48\) is not a multiple of .* \(10\)"
    ):
        save_huggingface(small, tmp_path / "hf", TOKENS)
    assert not (tmp_path / "hf").exists()


def test_a_part_of_a_layer_can_t_be_left_out() -> None:
    name = "bert.encoder.layer.1.attention"
    small = built(made("BertForSequenceClassification", TEXT), TOKENS, (), blocks=(name,))
    with pytest.raises(PruningError, match=f"^hf: {name} alone is left out, and a configuration can say that of whole"):
        standalone(small, TOKENS)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama")
    llama(tokenizer(path), tie_word_embeddings=True)
    return path


def best_of(dense: Path, ratios: list[float], matches: list[str], weights: list[Any]) -> Candidate:
    from functools import partial

    factory = partial(explorer.models.transformers, architecture=str(dense), task="causal-lm", pretrained=True)
    batches = [torch.randint(24, (4, 12), generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    choices = [{"match": match, "choices": [{"granularity": "filter", "ratios": ratios}]} for match in matches]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explorer.explore(
            factory(),
            [(batch, batch) for batch in batches],
            [(batch, batch) for batch in batches],
            space={"channels": choices, "weights": weights},
            task=explorer.language(),
            trials=1,
            ladder=0,
            sampler="random",
        ).best()


@pytest.fixture(scope="module")
def best(dense: Path) -> Candidate:
    pattern = {"granularity": "element", "per": "output", "ratios": [0.5]}
    weights = [{"match": "model.layers.1.self_attn.o_proj", "choices": [pattern]}]
    return best_of(dense, [0.5], ["*gate_proj", "*q_proj"], weights)


def generated(model: Any, *, cache: bool) -> Tensor:
    mask = torch.ones_like(TOKENS)
    return model.generate(TOKENS, attention_mask=mask, max_new_tokens=12, do_sample=False, use_cache=cache)


def test_a_sub_network_says_what_it_is_and_saves_itself_as_it_was_trained(best: Candidate, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    small: Any = best.build()
    config = small.config
    assert (config.intermediate_size, config.num_attention_heads, config.num_key_value_heads) == (24, 2, 1)
    assert config is small.model.config
    copied = copy.deepcopy(small).train()
    with torch.no_grad():
        copied.lm_head.weight.mul_(2)
    copied.save_pretrained(tmp_path)
    assert copied.training
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(logits(again, TOKENS), logits(copied.eval(), TOKENS))
    assert not torch.allclose(logits(again, TOKENS), logits(small, TOKENS))
    for cache in (True, False):
        assert torch.equal(generated(again, cache=cache), generated(copied, cache=False))


def test_a_sub_network_of_other_widths_refuses_to_save_itself(dense: Path, tmp_path: Path) -> None:
    other = best_of(dense, [0.5], ["*layers.0.mlp.gate_proj"], [])
    small: Any = other.build()
    with pytest.raises(PruningError, match="hf: LlamaConfig has one intermediate_size"):
        small.save_pretrained(tmp_path / "hf")
    with pytest.raises(PruningError, match="hf: LlamaConfig has one intermediate_size"):
        other.save(tmp_path / "export", hf=True, onnx=False)
    assert list(tmp_path.iterdir()) == []
    other.save(tmp_path / "export", onnx=False)
    assert not (tmp_path / "export" / "hf").exists()


def test_an_export_has_the_folder_beside_its_files(best: Candidate, dense: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "small"
    for _ in range(2):
        # the second takes the first one's place
        best.save(folder, hf=True, onnx=False)
    card = (folder / "README.md").read_text()
    assert 'model = LlamaForCausalLM.from_pretrained("hf")' in card
    size = sum(path.stat().st_size for path in (folder / "hf").iterdir())
    assert f"| hf | {size:,} | the network for transformers" in card
    again = AutoModelForCausalLM.from_pretrained(folder / "hf").eval()
    assert again.config.use_cache
    small: Any = best.build()
    torch.testing.assert_close(logits(again, TOKENS), logits(small, TOKENS))
    assert int((again.model.layers[1].self_attn.o_proj.weight == 0).sum()) == 16 * 32 // 2
    assert torch.equal(generated(again, cache=True), generated(small, cache=False))
    assert AutoTokenizer.from_pretrained(folder / "hf")("w3 w1")["input_ids"] == [3, 1]
    # what this package loads writes the same
    loaded: Any = explorer.load(folder, model=explorer.models.transformers(architecture=str(dense), task="causal-lm"))
    loaded.save_pretrained(tmp_path / "again")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "again").config.intermediate_size == 24
    best.save(folder, onnx=False)
    assert not (folder / "hf").exists()


def test_a_model_of_another_library_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(9, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = explorer.explore(model, [(x, x[:, :3].argmax(1))], [(x, x[:, :3].argmax(1))], trials=1, ladder=0)
    with pytest.raises(PruningError, match=r"^hf: the model is a Sequential, allowed are those of transformers$"):
        found.best().save(tmp_path / "small", hf=True)
    assert list(tmp_path.iterdir()) == []
