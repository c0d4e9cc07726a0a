"""The Python of the pages runs as it stands, but for how long: on small data, with few trials."""

from __future__ import annotations

import json
import logging
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explorer.data import load_digits
from explorer.models import resnet_digits
from explorer.tracing import trace
from tests.support.identities import assert_sliced_is_masked, fresh, random_kept, random_recipe
from tests.support.pages import ROOT, blocks
from tests.support.populations import made_up

# what takes long in earnest
SHORTER = {
    "trials=64": "trials=4",
    "n=128": "n=8",
    '{"name": "local", "workers": 2}': '"inline"',
    "n_trials=12": "n_trials=9",
    # ONNX takes seconds, and tests of export write it
    '.save("small"': '.save("small", onnx=False',
}


def names() -> dict[str, Any]:
    """Return what the pages take as given."""
    torch.manual_seed(0)
    digits = load_digits()

    def batches(part: Any, count: int) -> list[tuple[Tensor, Tensor]]:
        return [(part.inputs[:count].float() / 255, part.targets[:count])]

    def train(module: nn.Module) -> None:
        module.train()
        module(train_loader[0][0])
        module.eval()

    train_loader = batches(digits.train, 64)
    return {
        "model": resnet_digits().eval(),
        "Net": resnet_digits,
        "train_loader": train_loader,
        "val_loader": batches(digits.validation, 100),
        "images": digits.test.inputs[:8].float() / 255,
        "train": train,
    }


@pytest.fixture
def quietened() -> Iterator[None]:
    """Let a page set how much is logged, and undo it: tests that come later listen."""
    log = logging.getLogger("explorer")
    level = log.level
    yield
    log.setLevel(level)


def run(page: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run the blocks of a page one after the other, and return what they leave."""
    for block in blocks(ROOT / page, "python"):
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        exec(compile(block, page, "exec"), given)
    plt.close("all")
    return given


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that pages read: an export, a traced network, a table."""
    path = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        found = run("README.md", names())
        assert (path / "pareto.pdf").exists()
        inputs = found["images"]
        assert torch.allclose(found["again"](inputs), found["small"](inputs), atol=1e-6)
        assert torch.allclose(found["fast"](inputs), found["best"].build()(inputs), atol=1e-4)
        (path / "results" / "NAME").mkdir(parents=True)
        trace(found["model"], inputs[:1]).save(path / "results" / "NAME" / "network.yaml")
        made_up(64, 0).to_csv(path / "mine.csv", index=False)
        yield path


@pytest.mark.parametrize(
    "page", ["docs/python.md", "docs/spaces.md", "docs/samplers.md", "docs/report.md", "docs/populations.md"]
)
def test_the_python_of_a_page_runs(page: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(page, names())
    if page == "docs/python.md":
        assert "did you mean 'flops'" in capsys.readouterr().out


def test_no_page_has_python_that_is_not_run() -> None:
    having = {str(page.relative_to(ROOT)) for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}
    having = {page for page in having if blocks(ROOT / page, "python")}
    assert having == {"README.md", "docs/extending.md"} | {
        f"docs/{name}.md" for name in ("python", "spaces", "samplers", "report", "populations")
    }


def test_the_readme_has_fifteen_lines_of_python() -> None:
    (block,) = blocks(ROOT / "README.md", "python")
    assert len([line for line in block.splitlines() if line]) <= 15


def test_the_example_gives_a_frontier_and_loads_what_it_exports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(ROOT / "examples" / "own_model.py"))["main"]
    study = main(epochs=1, trials=3)
    assert len(study.frontier)
    assert "the same outputs: True" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["segmentation", "detection"])
def test_the_vision_examples_prune_and_load_what_they_export(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]
    studies = main(epochs=4, trials=4, images=128, onnx=False)
    assert "the same outputs: True" in capsys.readouterr().out
    inherited, reconstructed = (studies[how].trials.set_index("trial") for how in ("inherit", "reconstruct"))
    # the ladder's uniform recipes are the same, and both begin with them
    assert list(inherited["flops"]) == list(reconstructed["flops"])
    assert reconstructed["loss"].mean() < inherited["loss"].mean()


@pytest.mark.parametrize(("name", "model"), [("segmentation", "UNet"), ("detection", "Detector")])
def test_a_masked_network_of_an_example_is_the_sliced_one(name: str, model: str) -> None:
    made, example = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))[model](4), torch.rand(2, 1, 16, 16)
    network = trace(made, example[:1])
    dense, rng = fresh(made), np.random.default_rng(0)
    for _ in range(3):
        kept = random_kept(network, random_recipe(network, rng), rng)
        assert kept
        assert_sliced_is_masked(dense, network, example.double(), kept)


def test_the_notebook_runs_as_it_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quietened: None) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "examples" / "digits.ipynb").read_text()
    assert "site-packages" not in text, "a cell shows where it was run"
    book = json.loads(text)
    found: dict[str, Any] = {}
    for number, cell in enumerate(cell for cell in book["cells"] if cell["cell_type"] == "code"):
        assert cell["outputs"] or number in (0, 1), "a cell was not run before it was kept"
        source = "".join(line for line in cell["source"] if not line.startswith("%"))
        exec(
            compile(source.replace("epochs, trials = 8, 48", "epochs, trials = 1, 9"), f"cell {number}", "exec"), found
        )
    plt.close("all")
    inputs = next(iter(found["unseen"]))[0]
    assert torch.allclose(found["again"](inputs), found["small"](inputs), atol=1e-6)
    assert found["best"].metrics["flops"] <= 0.3 * found["study"].problem.dense["flops"]
