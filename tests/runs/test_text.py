"""A text classifier end to end: heads, feed-forward and residual widths explored, exported and loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import explorer
from explorer import data
from explorer.data import Data, Split, fingerprint
from spaces import PruningError

VOCABULARY, LENGTH = 20, 12
PADDING, GOOD, BAD = 0, 1, 2


class Layer(nn.Module):
    """A layer of DistilBERT's kind: attention and feed-forward, each normalised after its residual."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.n_heads, self.head = heads, width // heads
        self.q_lin, self.k_lin, self.v_lin, self.out_lin = (nn.Linear(width, width) for _ in range(4))
        self.sa_layer_norm, self.output_layer_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.lin1, self.lin2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (-1, self.head)).transpose(1, 2) for layer in (self.q_lin, self.k_lin, self.v_lin)
        )
        attended = F.scaled_dot_product_attention(q, k, v, mask[:, None, None].bool())
        x = self.sa_layer_norm(x + self.out_lin(attended.transpose(1, 2).flatten(2)))
        return self.output_layer_norm(x + self.lin2(F.gelu(self.lin1(x))))


class Encoder(nn.Module):
    """A small classifier of token ids, called as models of transformers are."""

    def __init__(
        self, num_classes: int = 2, width: int = 24, heads: int = 3, hidden: int = 32, layers: int = 2
    ) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(LENGTH, width)
        self.layers = nn.ModuleList(Layer(width, heads, hidden) for _ in range(layers))
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        x = self.words(input_ids) + self.positions(torch.arange(input_ids.size(1), device=input_ids.device))
        for layer in self.layers:
            x = layer(x, attention_mask)
        return {"logits": self.classifier(x[:, 0])}


def texts(count: int = 600) -> Data:
    """Return token sequences of different lengths; the class is which of two tokens is there more often."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCABULARY, (count, LENGTH), generator=generator)
    ids[:, 1:] = torch.where(torch.rand(count, LENGTH - 1, generator=generator) < 0.3, GOOD, ids[:, 1:])
    ids[:, 1:] = torch.where(torch.rand(count, LENGTH - 1, generator=generator) < 0.3, BAD, ids[:, 1:])
    mask = (torch.arange(LENGTH) < torch.randint(4, LENGTH + 1, (count, 1), generator=generator)).long()
    ids = torch.where(mask.bool(), ids, PADDING)
    labels = ((ids == GOOD).sum(1) > (ids == BAD).sum(1)).long()
    whole = Split({"input_ids": ids, "attention_mask": mask}, labels)
    cut = [range(0, count // 2), range(count // 2, 3 * count // 4), range(3 * count // 4, count)]
    train, validation, test = (whole.subset(rows) for rows in cut)
    identity = fingerprint(train, validation, test)
    return Data("texts", train, validation, test, 2, (), (), identity, crop=0, flip=False)


@pytest.fixture(scope="module")
def trained() -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Encoder()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    split = texts().train
    for _ in range(80):
        for inputs, labels in data.Batches(split, 50, mean=(), std=()):
            optimizer.zero_grad()
            F.cross_entropy(model(**inputs)["logits"], labels).backward()
            optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def loaders() -> list[list[dict[str, Tensor]]]:
    found = texts()
    return [
        [{**inputs, "labels": labels} for inputs, labels in data.Batches(split, 50, mean=(), std=())]
        for split in (found.train, found.validation)
    ]


def test_every_part_of_an_encoder_is_a_unit(trained: Encoder) -> None:
    network = explorer.trace(
        trained, {"input_ids": torch.ones(1, LENGTH, dtype=torch.long), "attention_mask": torch.ones(1, LENGTH)}
    )
    sizes = {unit.name: (unit.channels, unit.step) for unit in network.units}
    for i in range(2):
        assert sizes[f"layers.{i}.q_lin"] == (24, 8)
        assert sizes[f"layers.{i}.lin1"] == (32, 1)
    # the residual width, which embeddings write and norms run over
    assert sizes["words"] == (24, 1)
    assert [block.name for block in network.blocks] == ["layers.0", "layers.1"]


@pytest.mark.parametrize("criterion", ["l1", pytest.param("taylor", marks=pytest.mark.slow)])
def test_heads_and_widths_are_explored_exported_and_loaded(trained, loaders, criterion, tmp_path) -> None:
    space = {
        "channels": [
            {"match": "*q_lin", "choices": [{"granularity": "filter", "ratios": [1, 2 / 3, 1 / 3]}]},
            {"match": "*lin1", "choices": [{"granularity": "filter", "ratios": [1, 0.5, 0.25]}]},
            {"match": "words", "choices": [{"granularity": "filter", "ratios": [1, 0.75]}]},
        ]
    }
    study = explorer.explore(
        trained, *loaders, space=space, criterion=criterion, evaluator="inherit", trials=24, ladder=4
    )
    assert study.problem.dense["error"] < 0.1
    front = study.frontier
    assert len(front) > 2
    assert front["error"].min() < 0.15
    best = study.best(flops=0.8)
    best.save(tmp_path)
    (inputs, _), *_ = study.problem.meter.validation
    expected = best.build()(**inputs)["logits"]
    torch.testing.assert_close(explorer.load(tmp_path, trust=True)(**inputs)["logits"], expected)
    small = explorer.load(tmp_path, model=Encoder())
    torch.testing.assert_close(small(**inputs)["logits"], expected)
    assert sum(p.numel() for p in small.parameters()) == best.metrics["params"]


def test_a_run_on_texts_from_the_command_line(explore, folder: Path) -> None:
    (folder / "my_texts.py").write_text(Path(__file__).read_text())
    keys = ["model=custom", "model._target_=my_texts.Encoder", "data=custom", "data._target_=my_texts.texts"]
    quick = ["training.epochs=2", "evaluator.calibration_batches=2", "trials=4", "ladder=2", "name=texts"]
    code, _, err = explore("run", *keys, *quick)
    assert code == 0, err
    code, _, err = explore("export", "results/texts", "--allow", "my_texts")
    assert code == 0, err
    (target,) = (folder / "results" / "texts" / "export").iterdir()
    script = f"""
import sys; sys.path.insert(0, {str(folder)!r})
import torch, explorer, my_texts
split = my_texts.texts().test
logits = explorer.load({str(target)!r}, allow=["my_texts"])(**split.inputs)["logits"]
print(float((logits.argmax(1) != split.targets).float().mean()))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    record = json.loads((target / "model.json").read_text())
    assert float(done.stdout) == pytest.approx(record["metrics"]["test_error"])


def test_inspect_as_json(explore, folder: Path) -> None:
    (folder / "my_texts.py").write_text(Path(__file__).read_text())
    keys = ["model=custom", "model._target_=my_texts.Encoder", "data=custom", "data._target_=my_texts.texts"]
    code, out, err = explore("inspect", *keys, "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert {"layers.0.q_lin", "layers.1.lin1"} <= {unit["name"] for unit in facts["units"]}
    assert 0.5 < facts["prunable"]["flops"] <= 1
    assert 0 < facts["least"]["flops"] < 0.5
    parts = [*facts["layers"], *facts["products"]]
    assert sum(part["flops"] for part in parts) == facts["dense"]["flops"]
    assert int(facts["size"]) > 1


# texts that the datasets library reads


def _tokenizer(folder: Path) -> Path:
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[UNK]": 1, "a": 2, "good": 3, "bad": 4, "film": 5}
    found = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=found, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


def test_texts_become_tokens(tmp_path: Path) -> None:
    tokenizer = _tokenizer(tmp_path / "tokenizer")
    (tmp_path / "texts").mkdir()
    rows = ["text,label", *["a good film,1", "bad film,0"] * 10]
    for name in ("train", "test"):
        (tmp_path / "texts" / f"{name}.csv").write_text("\n".join(rows) + "\n")
    found = data.load_text(tmp_path / "texts", tokenizer=str(tokenizer), length=4, validation=4)
    assert (len(found.train), len(found.validation), len(found.test), found.classes) == (16, 4, 20, 2)
    tokens = {
        label: ids
        for ids, label in zip(found.test.inputs["input_ids"].tolist(), found.test.targets.tolist(), strict=True)
    }
    assert tokens == {1: [2, 3, 5, 0], 0: [4, 5, 0, 0]}
    assert found.test.inputs["attention_mask"].sum(1).tolist() == [3, 2] * 10
    assert found.shape == (4,)
    with pytest.raises(PruningError, match=r"data\.tokenizer: 'nowhere'"):
        data.load_text(tmp_path / "texts", tokenizer="nowhere")
