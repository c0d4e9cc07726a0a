"""The bench of language models at a tiny size: what it measures, keeps and refuses."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from explorer.bench import run_bench
from explorer.bench.language import CASES
from explorer.data import load_tokens
from spaces import PruningError
from tests.support import foreign
from tests.support.language import learned, text

pytestmark = pytest.mark.skipif(foreign.missing("transformers"), reason="no transformers")
# as torchvision asks for when transformers imports it
OPERATORS = foreign.declare_operators()


def test_every_case_is_measured_on_test_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = learned(tmp_path / "llama", layers=4)
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "valid.txt").write_text(text(1600))
    (texts / "test.txt").write_text(text(800, seed=3))
    sizes = ["length=32", "calibration=8", "test=8", "trials=3"]
    given = ["language.model=llama", "language.data=texts", *(f"language.{size}" for size in sizes)]
    assert run_bench(["language", *given]) == 0
    folder = tmp_path / "results" / "bench" / "language"
    (path,) = folder.glob("llama-*.csv")
    table = pd.read_csv(path, keep_default_na=False)
    assert len(table) == 1 + 2 * len(CASES)
    assert {(row["removed"], row["by"]) for _, row in table.iterrows()} == {
        ("nothing", ""),
        *((case.removed, case.by) for case in CASES),
    }
    dense, *rest = (row for _, row in table.iterrows())
    ids = load_tokens(texts, tokenizer="llama", length=32, test=8).test.inputs["input_ids"]
    with torch.no_grad():
        logits = model(ids).logits[:, :-1]
    nll = float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))
    assert dense["error"] == pytest.approx(nll, rel=1e-5)
    assert dense["perplexity"] == pytest.approx(math.exp(nll), rel=1e-5)
    assert all(row["perplexity"] == pytest.approx(math.exp(row["error"])) for row in rest)
    by = {(row["by"], row["solved"]): row for row in rest}
    assert by["first", False]["blocks"] == "model.layers.0"
    assert by["last", False]["blocks"] == "model.layers.3"
    halves = table[table["removed"].str.startswith("half")]
    assert len(set(halves["params"])) <= 2
    assert halves["params"].max() == by["l1", False]["params"]
    # what is solved has the same cost, and another error
    for case in CASES:
        plain, solved = (row for row in rest if (row["removed"], row["by"]) == (case.removed, case.by))
        assert (plain["params"], plain["flops"], plain["blocks"]) == (
            solved["params"],
            solved["flops"],
            solved["blocks"],
        )
        assert plain["error"] != solved["error"] or plain["params"] == 1
    lines = path.with_suffix(".md").read_text().splitlines()
    assert len(lines) == 3 + len(CASES)
    # a row that is there is not made again, one that is missing is
    kept = path.read_text()
    path.write_text("\n".join(kept.splitlines()[:-1]) + "\n")
    monkeypatch.setattr(sys.modules["explorer.bench.language"], "searched", None)
    assert run_bench(["language", *given]) == 0
    again = pd.read_csv(path, keep_default_na=False)
    pd.testing.assert_frame_equal(again.iloc[:-1], table.iloc[:-1])
    assert again["error"].iloc[-1] == pytest.approx(table["error"].iloc[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "language.model: not given, needed is a folder of transformers or a GGUF file"),
        (["language.model=llama"], "language.data: not given, needed is a folder of texts"),
        (["language.length=1"], "language.length: 1, allowed is a whole number >= 2"),
        (["language.trials=-1"], "language.trials: -1"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PruningError, match=message) as caught:
        run_bench(["language", *arguments])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "results").exists()
