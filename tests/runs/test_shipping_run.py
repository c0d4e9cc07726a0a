"""What a run gives away: sub-networks by trial, knee and rung; recipes as inputs again; latency where it ships."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pandas as pd
import pytest
import yaml
from filelock import FileLock

import explorer
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import knee
from explorer.utils import tensor_cache
from explorer.utils.runtime_names import ONNX, missing
from tests.support.quick_runs import QUICK

RUNGS = [*QUICK, "trials=6", "evaluator=finetune", "evaluator.rungs=[0,1]", "sampler=random", "latency.seconds=0"]
# a network that is converted in a moment
TINY = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
"""
needs_onnx = pytest.mark.skipif(missing(ONNX) is not None, reason="no ONNX Runtime")


@pytest.fixture
def run(explore, folder: Path) -> Path:
    code, _, err = explore("run", *QUICK, "name=given", "latency.seconds=0")
    assert code == 0, err
    return folder / "results" / "given"


@pytest.fixture
def tiny(folder: Path) -> list[str]:
    (folder / "tiny_net.py").write_text(TINY)
    return [*QUICK, "model=custom", "model._target_=tiny_net.Net", "trials=2", "ladder=2"]


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "model.json").read_text())["metrics"]


def test_a_trial_and_the_knee_are_exported(explore, run: Path, folder: Path) -> None:
    trials, front = pd.read_parquet(run / "trials.parquet"), pd.read_csv(run / "frontier.csv")
    # one that is not on the frontier has no file
    other = next(trial for trial in trials["trial"] if trial not in set(front["trial"]))
    for asked, trial in ((["--trial", str(other)], other), (["--knee"], int(knee(front, "flops_ratio")["trial"]))):
        code, out, err = explore("export", str(run), *asked, "--no-onnx")
        assert code == 0, err
        target = run / "export" / f"trial-{trial:04d}"
        row = trials[trials["trial"] == trial].iloc[0]
        assert metrics_of(target)["error"] == row["error"]
        module = explorer.load(target)
        assert sum(p.numel() for p in module.parameters()) == row["params"]
        assert f"exported to {Path('results') / 'given'}" in out.replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--trial", "99"], "trial: 99, allowed are those that there are: 0 to 9"),
        (["--trial", "-1"], "allowed is a whole number >= 0"),
        (["--trial", "1", "--knee"], "trial: it is given, and so is --knee, allowed is one of them"),
        (["--knee", "--latency-ms", "3"], "knee: it is given, and so is --latency-ms, allowed is one of them"),
        (["--rung", "1"], "rung: 1, allowed are 0 to 0"),
        (["--flops", "0.5", "--no-onnx", "--int8"], "int8: it is asked for, and ONNX is not"),
        (["--out", "results"], "out: 'results' holds "),
        (["--out", "results/given/summary.json"], "is a file, allowed is a folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(explore, run: Path, asked: list[str], message: str) -> None:
    before = sorted(run.rglob("*"))
    code, _, err = explore("export", "results/given", *asked)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert sorted(run.rglob("*")) == before


@needs_onnx
def test_an_export_has_onnx_8_bits_and_a_card(explore, tiny: list[str], folder: Path) -> None:
    assert explore("run", *tiny, "name=tiny", "latency.seconds=0")[0] == 0
    asked = ["export", "results/tiny", "--allow", "tiny_net", "--out", "card"]
    code, out, err = explore(*asked, "--int8")
    assert (code, err) == (0, ""), err
    card, metrics = (folder / "card" / "README.md").read_text(), metrics_of(folder / "card")
    assert {"model.onnx", "model.int8.onnx", "program.pt2"} <= {path.name for path in (folder / "card").iterdir()}
    assert f"of model.int8.onnx | {100 * metrics['int8_test_error']:.2f}" in card
    assert "scaled to 0..1" in card
    assert "test error" in out
    again = explore(*asked, "--no-onnx")[1]
    assert "'card' held another export, whose README.md, model.int8.onnx" in again
    assert not list((folder / "card").glob("*.onnx"))


def test_a_lower_rung_is_exported_as_it_was_there(explore, folder: Path) -> None:
    code, _, err = explore("run", *RUNGS, "name=stairs")
    assert code == 0, err
    trials = pd.read_csv(folder / "results/stairs/trials.csv")
    code, _, err = explore("export", "results/stairs", "--rung", "0", "--error", "0.99", "--no-onnx", "--out", "low")
    assert code == 0, err
    found = metrics_of(folder / "low")
    assert found["rung"] == 0
    row = trials[trials["trial"] == found["trial"]].iloc[0]
    assert found["error"] == pytest.approx(row["error_rung0"])
    promoted = int(trials[trials["rung"] == 1]["trial"].iloc[0])
    for rung in (0, 1):
        asked = ["--trial", str(promoted), "--rung", str(rung), "--no-onnx", "--out", f"rung{rung}"]
        code, _, err = explore("export", "results/stairs", *asked)
        assert code == 0, err
        assert metrics_of(folder / f"rung{rung}")["error"] == pytest.approx(
            trials.set_index("trial")[f"error_rung{rung}"][promoted]
        )
    (low, high) = (explorer.load(folder / f"rung{rung}").state_dict() for rung in (0, 1))
    assert any(bool((low[name] != high[name]).any()) for name in low)


def test_a_cache_that_cannot_be_written_is_read(explore, run: Path, folder: Path, monkeypatch) -> None:
    class Refused(FileLock):
        def acquire(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tensor_cache, "FileLock", Refused)
    code, _, err = explore("export", "results/given", "--no-onnx", "--out", "readonly")
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert (code, err) == (0, ""), err


def test_a_recipe_alone_is_a_study_of_one(explore, run: Path, folder: Path) -> None:
    path = next((run / "recipes").glob("trial-*.yaml"))
    trial = pd.read_csv(run / "trials.csv").set_index("trial").loc[int(path.stem.removeprefix("trial-"))]
    code, out, err = explore("run", *QUICK, f"+recipe={path}", "name=alone", "latency.seconds=0")
    assert code == 0, err
    (row,) = pd.read_csv(folder / "results/alone/trials.csv").to_dict("records")
    assert row["error"] == trial["error"]
    assert row["flops"] == trial["flops"]
    assert "dense" in out
    assert "uniform ratios" not in out
    # what is written needs no other file
    path.rename(path.with_suffix(".moved"))
    code, _, err = explore("export", "results/alone", "--no-onnx")
    path.with_suffix(".moved").rename(path)
    assert code == 0, err
    code, _, err = explore("run", *RUNGS, f"recipe={path}", "name=trained")
    assert code == 0, err
    (row,) = pd.read_csv(folder / "results/trained/trials.csv").to_dict("records")
    assert (row["epochs"], row["rung"]) == (1, 0)


def test_the_neighbourhood_of_a_recipe_is_searched(explore, run: Path, folder: Path) -> None:
    path = next((run / "recipes").glob("trial-*.yaml"))
    middle = pd.read_csv(run / "trials.csv").set_index("trial").loc[int(path.stem.removeprefix("trial-"))]
    near = [f"space.around={path}", "space.radius=1"]
    code, _, err = explore("run", *QUICK, *near, "trials=5", "ladder=1", "name=near", "latency.seconds=0")
    assert code == 0, err
    trials = pd.read_csv(folder / "results/near/trials.csv")
    for axis in trials.filter(like="channels."):
        assert (abs(trials[axis] - middle[axis]) <= 0.125 + 1e-9).all()
    config = yaml.safe_load((folder / "results/near/config.yaml").read_text())
    assert config["space"]["around"] == yaml.safe_load(path.read_text())
    code, out, err = explore("inspect", "results/near", "--json")
    assert code == 0, err
    assert int(json.loads(out)["size"]) == 3 ** sum(0.125 < v < 1 for v in middle.filter(like="channels.")) * 2 ** sum(
        v in (0.125, 1) for v in middle.filter(like="channels.")
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["recipe=nowhere.yaml"], "recipe: 'nowhere.yaml' can't be read (No such file or directory)"),
        (["recipe=results"], "recipe: 'results' can't be read (Is a directory)"),
        (["space.around=nowhere.yaml"], "space.around: 'nowhere.yaml' can't be read"),
        (["recipe={WRONG}"], "holds no recipe (recipe: 'a' is unknown"),
        (["recipe={DENSE}"], "recipe: it keeps everything"),
        (["recipe={OTHER}"], "channels: 'nothing' is unknown"),
        (["space.around={OTHER}"], "channels: 'nothing' is unknown"),
        (["space.radius=1e999"], "space.radius: inf, allowed is a whole number >= 0"),
        (["space.around={HALF}", "space.radius=x"], "space.radius: 'x', allowed is a whole number >= 0"),
        (["space.around={HALF}", "space.radius=-1"], "space.radius: -1, allowed is a whole number >= 0"),
        (["space.around={HALF}", "space=element"], "space.around: the space leaves channels of conv1 whole"),
        (["space.around={HALF}", "recipe={HALF}"], "recipe: given, and so is space.around"),
        (["latency.runtime=onnx"], "latency.runtime: 'onnx' is unknown, did you mean 'onnxruntime'"),
    ],
)
def test_a_wrong_recipe_or_runtime_is_one_line(explore, folder: Path, given: list[str], message: str) -> None:
    files = {
        "WRONG": "a: 1\n",
        "DENSE": "{}\n",
        "OTHER": "channels: {nothing: 0.5}\n",
        "HALF": "channels: {conv1: 0.5}\n",
    }
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
        given = [part.replace(f"{{{name}}}", f"{name}.yaml") for part in given]
    code, _, err = explore("run", *QUICK, "name=wrong", *given)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert not (folder / "results" / "wrong").exists()


@needs_onnx
def test_a_finished_run_measures_its_latencies_in_another_runtime(explore, tiny: list[str], folder: Path) -> None:
    command = ["run", *tiny, "name=fast", "latency.seconds=1"]
    assert explore(*command)[0] == 0
    before = pd.read_csv(folder / "results/fast/frontier.csv")
    code, out, err = explore(*command, "latency.runtime=onnxruntime")
    assert code == 0, err
    assert "latency in ONNX Runtime" in out
    summary, after = RunFolder(folder / "results/fast").summary(), pd.read_csv(folder / "results/fast/frontier.csv")
    assert summary is not None
    assert (summary["runtime"], summary["ended"]) == ("onnxruntime", "trials")
    assert after["latency_ms"][0] != before["latency_ms"][0]
    pd.testing.assert_frame_equal(
        after.drop(columns=after.filter(regex="latency")), before.drop(columns=before.filter(regex="latency"))
    )
    code, out, _ = explore(*command, "latency.runtime=onnxruntime")
    assert "is finished" in out


@needs_onnx
def test_where_latency_decides_the_runtime_is_part_of_the_run(explore, tiny: list[str], folder: Path) -> None:
    command = ["run", *tiny, "name=decides", "objectives=[error,latency]"]
    code, _, err = explore(*command, "latency.runtime=onnxruntime")
    assert code == 0, err
    trials = pd.read_csv(folder / "results/decides/trials.csv")
    assert (trials["latency_ms"] > 0).all()
    code, _, err = explore(*command)
    assert (code, err.count("\n")) == (2, 1), err
    assert "latency.runtime: 'onnxruntime' there, 'torch' here" in err


def test_a_latency_budget_out_of_reach_names_the_fastest(explore, folder: Path) -> None:
    command = ["run", *QUICK, "name=never", "budget.latency_ms=0.0001", "space.ratios=[1,0.5]", "space.match=layer1.*"]
    code, _, err = explore(*command, "ladder=2")
    assert (code, err.count("\n")) == (2, 1), err
    assert "the fastest takes " in err
    assert " ms" in err


def test_a_dashboard_finds_named_objectives_and_the_recipe_as_a_note(explore, run: Path) -> None:
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(run / "study.journal")))
    study = optuna.load_study(study_name="given", storage=storage)
    assert study.metric_names == ["error", "flops"]
    attributes = storage.get_study_system_attrs(study._study_id)
    front, records = pd.read_csv(run / "frontier.csv"), study.get_trials(deepcopy=False)
    notes = {int(key.split(":")[1]) for key in attributes if key.startswith("dashboard:") and "note_ver" in key}
    assert len(notes) == len(front)
    for identifier in notes:
        trial = next(trial for trial in records if trial._trial_id == identifier)
        text = attributes[f"dashboard:{identifier}:note_str:0"]
        body = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
        assert (body or {}) == trial.user_attrs["recipe"]
        assert f"`explore export {Path('results') / 'given'} --trial " in text
