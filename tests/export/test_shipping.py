"""Shipping: what an exported folder holds, that every file of it computes the same, and what is said of the rest."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import explorer
from explorer.candidate import Candidate
from explorer.export import shipping
from explorer.export.shipping import Formats, check_formats
from explorer.utils.programs import session_of
from explorer.utils.runtime_names import ONNX, missing
from spaces import PruningError

needs_onnx = pytest.mark.skipif(missing(ONNX) is not None, reason="no ONNX Runtime")
SPACE = {
    "channels": [{"match": "0", "choices": [{"granularity": "filter", "ratios": [0.5]}]}],
    "weights": [{"match": "2", "choices": [{"granularity": "element", "ratios": [0.5]}]}],
}
LOADED = {"model.json", "network.yaml", "recipe.yaml", "weights.safetensors", "program.pt2", "README.md"}


def net(last: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)]
    return nn.Sequential(*layers, *([] if last is None else [last]))


def batch() -> tuple[Tensor, Tensor]:
    x = torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
    return x, x[:, :3].argmax(1)


def best_of(model: nn.Module) -> Candidate:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explorer.explore(model, [batch()], [batch()], space=SPACE, trials=1, ladder=0, sampler="random").best()


@pytest.fixture(scope="module")
def best() -> Candidate:
    return best_of(net())


@pytest.fixture(scope="module")
def shipped(best: Candidate, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exports") / "small"
    best.save(folder, test=[batch()], int8=missing(ONNX) is None)
    return folder


def outputs(folder: Path, file: str, x: Tensor) -> Tensor:
    session = session_of(folder / file)
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


@needs_onnx
def test_every_file_gives_what_the_module_gives(best: Candidate, shipped: Path) -> None:
    assert {path.name for path in shipped.iterdir()} == LOADED | {"model.onnx", "model.int8.onnx"}
    module = best.build()
    for count in (1, 7):
        x = torch.randn(count, 6)
        with torch.no_grad():
            expected = module(x)
            assert torch.equal(explorer.load(shipped, trust=True)(x), expected)
            torch.testing.assert_close(explorer.load(shipped, model=net())(x), expected)
        torch.testing.assert_close(outputs(shipped, "model.onnx", x), expected, rtol=1e-4, atol=1e-5)


@needs_onnx
def test_the_errors_of_8_bits_are_those_of_the_file(best: Candidate, shipped: Path) -> None:
    record = json.loads((shipped / "model.json").read_text())["metrics"]
    x, y = batch()
    error = float((outputs(shipped, "model.int8.onnx", x).argmax(1) != y).float().mean())
    assert record["int8_error"] == record["int8_test_error"] == pytest.approx(error)
    assert abs(error - record["error"]) < 0.2
    card = (shipped / "README.md").read_text()
    assert f"validation error (%) of model.int8.onnx | {100 * error:.2f}" in card


def test_the_card_says_what_was_measured(best: Candidate, shipped: Path) -> None:
    card, metrics = (shipped / "README.md").read_text(), best.metrics
    for name in LOADED - {"README.md"}:
        assert f"| {name} | {(shipped / name).stat().st_size:,} |" in card
    assert (
        f"| multiply-adds | {metrics['flops']:,.0f} | {best.dense['flops']:,.0f} | {metrics['flops_ratio']:.3f} |"
        in card
    )
    assert re.search(r"Test error [\d.]+ \([\d.]+ to [\d.]+\) % beside [\d.]+ \([\d.]+ to [\d.]+\) %", card)
    assert "50 % of the channels: 0 (8 of 16)" in card
    assert "element 0.5: 2" in card
    assert re.search(r"\| torch \| ~?[\d.e+]+ \([\d.e+]+ to [\d.e+]+\) \| ~?[\d.e+]+ ", card)
    assert f"{torch.get_num_threads()} thread" in card
    assert "explorer.load" in card


@needs_onnx
def test_the_card_s_code_runs_where_there_is_neither_torch_nor_this_package(best: Candidate, shipped: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (shipped / "README.md").read_text(), re.DOTALL)[-1]
    x = torch.randn(4, 6)
    np.save(shipped / "x.npy", x.numpy())
    blocked = "import sys\nfor name in ('torch', 'explorer', 'spaces', 'onnx'):\n    sys.modules[name] = None\n"
    script = re.sub(r"np\.zeros\(\(1, 6\), np\.float32\)", "np.load('x.npy')", code)
    assert script != code
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}{script}\nnp.save('y.npy', outputs)\nprint(sys.modules['torch'])"],
        capture_output=True,
        text=True,
        check=False,
        cwd=shipped,
    )
    assert done.stdout.strip() == "None", done.stderr
    found = torch.from_numpy(np.load(shipped / "y.npy"))
    torch.testing.assert_close(found, best.build()(x).detach(), rtol=1e-4, atol=1e-5)
    for name in ("x.npy", "y.npy"):
        (shipped / name).unlink()


def test_saving_says_nothing_of_its_own_accord(tmp_path: Path, capfd, caplog) -> None:
    fresh = best_of(net())
    capfd.readouterr()
    caplog.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fresh.save(tmp_path / "small")
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


def test_without_the_packages_everything_else_is_written_and_8_bits_are_refused(best, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(shipping, "missing", lambda packages: 'pip install "pruning-spaces[onnx]"')
    best.save(tmp_path / "small")
    assert {path.name for path in (tmp_path / "small").iterdir()} == LOADED
    assert 'no model.onnx, since ONNX Runtime is not installed: pip install "pruning-spaces[onnx]"' in caplog.text
    with pytest.raises(PruningError, match=r"int8: ONNX Runtime is not installed: pip install"):
        best.save(tmp_path / "other", int8=True)
    assert not (tmp_path / "other").exists()
    with pytest.raises(PruningError, match="int8: it is asked for, and ONNX is not"):
        check_formats(Formats(onnx=False, int8=True))


def test_onnx_can_be_left_out(best: Candidate, tmp_path: Path) -> None:
    best.save(tmp_path / "small", onnx=False)
    assert {path.name for path in (tmp_path / "small").iterdir()} == LOADED
    assert "onnxruntime.InferenceSession" not in (tmp_path / "small" / "README.md").read_text()


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * torch.special.bessel_j0(x)


@needs_onnx
def test_an_operator_that_onnx_has_not_is_one_line_and_leaves_the_other_files(tmp_path: Path, caplog) -> None:
    best_of(net(Bessel())).save(tmp_path / "small")
    assert {path.name for path in (tmp_path / "small").iterdir()} == LOADED
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line == "onnx: it has no operator for torch's prims.bessel_j0: no model.onnx"
    assert line in (tmp_path / "small" / "README.md").read_text()


def test_a_folder_that_is_no_export_is_refused(best: Candidate, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "model.json").write_text("{}")
    for name, message in (
        ("notes", "out: '.*notes' holds thesis.tex and is no export"),
        ("file", "is a file, allowed is a folder"),
        ("half", "holds model.json and is no export"),
    ):
        with pytest.raises(PruningError, match=message) as caught:
            best.save(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "half", "notes"]


def test_an_export_is_replaced_as_a_whole_and_a_stranger_s_file_stays(best: Candidate, tmp_path: Path, caplog) -> None:
    folder = tmp_path / "small"
    best.save(folder, onnx=False)
    (folder / "model.int8.onnx").write_bytes(b"of another")
    (folder / "mine.txt").write_text("mine")
    other = explorer.explore(net(), [batch()], [batch()], trials=1, ladder=0, sampler="random").best()
    other.save(folder, onnx=False)
    assert {path.name for path in folder.iterdir()} == LOADED | {"mine.txt"}
    assert "held another export, whose README.md, model.int8.onnx, model.json" in caplog.text
    x = torch.randn(3, 6)
    torch.testing.assert_close(explorer.load(folder, trust=True)(x), other.build()(x))
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_failure_leaves_the_export_that_was_there(best: Candidate, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "small"
    best.save(folder, onnx=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shipping.Card, "text", full)
    with pytest.raises(PruningError, match=r"out: '.*small' can't be written \(No space left on device\)") as caught:
        best.save(folder, onnx=False)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(PruningError, match="can't be written"):
        best.save(tmp_path / "new", onnx=False)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@needs_onnx
def test_a_file_that_computes_something_else_is_not_shipped(best, tmp_path, monkeypatch, caplog) -> None:
    from explorer.export import onnx

    monkeypatch.setattr(onnx, "difference", lambda found, expected: 0.25)
    best.save(tmp_path / "small")
    assert "ONNX Runtime's outputs differ from torch's by 0.25, allowed is 0.0001: no model.onnx" in caplog.text
    assert not (tmp_path / "small" / "model.onnx").exists()


def test_the_knee_and_a_trial_from_python(tmp_path: Path) -> None:
    study = explorer.explore(net(), [batch()], [batch()], trials=6, ladder=6)
    front = study.frontier
    for trial in study.trials["trial"]:
        candidate = study.candidate(int(trial))
        assert candidate.metrics["error"] == study.trials["error"][trial]
        assert candidate.recipe == study.problem.space.recipe(study.records[int(trial)].row)
    with pytest.raises(PruningError, match="trial: 99, allowed are"):
        study.candidate(99)
    if len(front) > 2:
        assert study.knee().metrics["trial"] in set(front["trial"])
    else:
        with pytest.raises(PruningError, match="lies below"):
            study.knee()
