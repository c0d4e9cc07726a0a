"""A language model end to end: from texts and a folder of transformers to a frontier, exported and loaded."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import explorer
from explorer.runs.config import RunConfig
from tests.support import foreign
from tests.support.language import learned, text

pytestmark = pytest.mark.skipif(foreign.missing("transformers"), reason="no transformers")
# as torchvision asks for when transformers imports it
OPERATORS = foreign.declare_operators()

QUICK = ["data.length=32", "evaluator.batch_size=16", "evaluator.calibration_batches=2", "latency.seconds=0"]


@pytest.fixture(scope="module")
def keys(folder: Path) -> list[str]:
    learned(folder / "llama")
    (folder / "texts.txt").write_text(text(3200))
    model = ["model=transformers", "model.task=causal-lm", "model.architecture=llama"]
    return [*model, "data=tokens", "data.path=texts.txt", "task=language", "space=llm", *QUICK]


def test_a_language_model_is_explored_exported_and_loaded(explore, folder: Path, keys: list[str]) -> None:
    code, out, err = explore("run", *keys, "trials=6", "ladder=2", "name=language")
    assert code == 0, err
    run = folder / "results" / "language"
    trials = pd.read_parquet(run / "trials.parquet")
    assert len(trials) == 6
    assert (trials["state"] == "COMPLETE").all()
    assert trials["error"].tolist() == pytest.approx(trials["loss"].tolist())
    assert trials["perplexity"].tolist() == pytest.approx(trials["error"].map(math.exp).tolist())
    assert (trials["error_se"] > 0).all()
    assert "perplexity" in out
    summary = json.loads((run / "summary.json").read_text())
    # it was not trained anew, and is far better than what knows frequencies only
    assert "training" not in out
    assert summary["dense"]["perplexity"] < 10
    assert 0 < summary["hypervolume"] < math.log(24)
    code, out, err = explore("export", "results/language", "--flops", "0.9", "--no-onnx")
    assert code == 0, err
    (target,) = (run / "export").iterdir()
    module = explorer.load(target)
    metrics = json.loads((target / "model.json").read_text())["metrics"]
    ids = explorer.data.load_tokens("texts.txt", tokenizer="llama", length=32).test.inputs["input_ids"]
    with torch.no_grad():
        logits = module(input_ids=ids).logits[:, :-1]
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    assert float(nll) == pytest.approx(metrics["test_error"], rel=1e-5)
    assert metrics["test_perplexity"] == pytest.approx(math.exp(metrics["test_error"]))


def test_sub_networks_of_uniform_widths_are_transformers_own(explore, folder: Path, keys: list[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    uniform = ['space.tie=["*.self_attn","*.mlp"]', "space.blocks=[]", "space.channel_ratios=[0.5]"]
    quick = ["trials=1", "ladder=0", "sampler=random", "evaluator=inherit", "name=uniform"]
    code, _, err = explore("run", *keys, *uniform, *quick)
    assert code == 0, err
    code, _, err = explore("export", "results/uniform", "--trial", "0", "--no-onnx", "--hf", "--out", "small")
    assert code == 0, err
    model = AutoModelForCausalLM.from_pretrained(folder / "small" / "hf").eval()
    config = model.config
    assert (config.intermediate_size, config.num_attention_heads, config.num_key_value_heads) == (24, 2, 1)
    ids = explorer.data.load_tokens("texts.txt", tokenizer="llama", length=32).test.inputs["input_ids"]
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1]
    nll = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
    metrics = json.loads((folder / "small" / "model.json").read_text())["metrics"]
    assert float(nll) == pytest.approx(metrics["test_error"], rel=1e-5)
    assert AutoTokenizer.from_pretrained(folder / "small" / "hf")("w3 w1")["input_ids"] == [3, 1]
    # what the configuration can't say
    several = [
        "space.blocks=[]",
        "space.weights=[]",
        "space.channels=[{match: '*0.mlp.gate_proj', choices: [{granularity:",
    ]
    several[-1] += " filter, ratios: [0.5]}]}]"
    code, _, err = explore("run", *keys, *several, *quick[:-1], "name=several")
    assert code == 0, err
    code, _, err = explore("export", "results/several", "--trial", "0", "--hf", "--out", "other")
    assert (code, len(err.strip().splitlines())) == (2, 1)
    assert "hf: LlamaConfig has one intermediate_size, and the sub-network needs 48 in model.layers.1.mlp" in err
    assert not (folder / "other").exists()


def test_memory_of_keys_and_values_is_a_budget_and_an_objective(explore, folder: Path, keys: list[str]) -> None:
    context = ["context.sequences=8", "context.tokens=64", "budget.memory=0.7", "objectives=[error,memory]"]
    quick = ["trials=4", "ladder=0", "sampler=random", "evaluator=inherit", "latency.seconds=10", "name=memory"]
    code, _, err = explore("run", *keys, *context, *quick)
    assert code == 0, err
    run = folder / "results" / "memory"
    trials, front = pd.read_parquet(run / "trials.parquet"), pd.read_csv(run / "frontier.csv")
    dense = json.loads((run / "summary.json").read_text())["dense"]
    # keys and values of two layers and two groups of heads, eight channels each
    assert dense["memory"] - dense["bytes"] == 8 * 64 * 2 * 2 * 2 * 8 * 4
    assert trials["memory_ratio"].max() <= 0.7
    # nothing is held where all attention is dropped
    assert (trials["memory"] >= trials["bytes"]).all()
    assert (trials["memory"] > trials["bytes"]).any()
    assert (front["latency_decode_ms"] > 0).all()
    assert (run / "plots" / "pareto-memory.png").exists()
    code, _, err = explore("export", "results/memory", "--memory", "0.7", "--no-onnx", "--out", "light")
    assert code == 0, err
    assert "bytes of weights, keys and values" in (folder / "light" / "README.md").read_text()
    code, _, err = explore("export", "results/memory", "--memory", "1000", "--no-onnx")
    assert (code, len(err.strip().splitlines())) == (2, 1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["context.tokens=100"], "context.tokens: 100, allowed is the model's context of 64 at most"),
        (["context.sequences=0"], "context.sequences: 0, allowed"),
        (["budget.memory=70"], "budget.memory: 70 would be 70 bytes"),
        (["data.length=100"], "data.length: 100, allowed is the model's context of 64 tokens at most"),
        (["data.path=nowhere"], "data.path: 'nowhere' is no file or folder that is there"),
        (["data.length=5000"], "data.path: its longest text has 3,200 tokens, needed are 5,000"),
        (["data.tokenizer=nowhere"], "data.tokenizer: 'nowhere' is neither a folder"),
        (["task=classification"], "task: classification, and the data has no classes, allowed are language"),
        (["model.task=causal"], "model.task: 'causal' is unknown, did you mean 'causal-lm'"),
        (["model.dtype=half"], "model.dtype: 'half' is unknown"),
        (["model.architecture=vit", "data.tokenizer=llama"], "'vit' of transformers predicts no next token"),
    ],
)
def test_mistakes_are_one_line(explore, keys: list[str], overrides: list[str], message: str) -> None:
    code, _, err = explore("run", *keys, "trials=2", *overrides)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_a_tokenizer_that_does_not_fit_is_one_line(explore, folder: Path, keys: list[str]) -> None:
    torch.save(torch.arange(640) % 30, folder / "others.pt")
    code, _, err = explore("run", *keys, "data.path=others.pt")
    assert code == 2
    assert "data.tokenizer: it makes token 29, and the model knows 0 to 23" in err


def test_what_is_minimised_can_be_the_divergence_from_the_dense_network(explore, folder: Path, keys: list[str]) -> None:
    quick = ["trials=3", "ladder=0", "sampler=random", "evaluator=inherit", *QUICK]
    code, _, err = explore("run", *keys, *quick, "task.metric=kl", "name=divergence")
    assert code == 0, err
    run = folder / "results" / "divergence"
    trials, summary = pd.read_parquet(run / "trials.parquet"), json.loads((run / "summary.json").read_text())
    assert summary["error"]["label"] == "validation divergence from the dense network (nats a token)"
    assert summary["dense"]["error"] == 0
    assert summary["dense"]["test_error"] == 0
    assert (trials["error"] > 0).all()
    assert (trials["loss"] > trials["error"]).all()


def test_few_sequences_are_a_batch_where_nothing_else_is_said(keys: list[str], explore) -> None:
    def size(*overrides: str) -> int:
        return RunConfig.composed([*overrides]).evaluator.batch_size

    language = [key for key in keys if not key.startswith("evaluator.batch_size")]
    assert size() == size("evaluator.batch_size=125") == 125
    assert size(*language) == 8
    assert size(*language, "evaluator.batch_size=3") == 3
    # a name is made of what null stands for
    assert RunConfig.composed([*language, "evaluator.batch_size=8"]).name == RunConfig.composed(language).name


class NeedsLabels(torch.nn.Module):
    """Returns nothing but a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(24, 24)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.table(input_ids).flatten(0, 1), labels.flatten())


def test_a_model_that_needs_labels_is_one_line(explore, folder: Path, keys: list[str]) -> None:
    save_file(NeedsLabels().state_dict(), folder / "labels.safetensors")
    others = [key for key in keys if not key.startswith("model")]
    model = ["model=custom", f"model._target_={__name__}.NeedsLabels", "model.weights=labels.safetensors"]
    code, _, err = explore("run", *others, *model, "data.tokenizer=llama", "trials=2")
    assert code == 2
    assert "model" in err
    assert "labels" in err
    assert len(err.strip().splitlines()) == 1
