"""The command line, from outside: runs, resumed runs, sweeps, exports and mistakes."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

import explorer
from explorer.cli import main
from explorer.config import compose, default_name, sweep_name
from explorer.validation import validate
from spaces import Network, Recipe

QUICK = ["training.epochs=2", "evaluator.calibration_batches=2", "evaluator.images=200", "trials=10"]
CLOCKS = r"seconds|latency.*"
SHARED = Path(__file__).parents[1].parent / "shared"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder that all tests share, so that the dense network is trained once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def explore(folder, monkeypatch, capsys):
    """Run `explore` in the working folder, in this process, and return its exit code, output and errors."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


def table(run: Path) -> pd.DataFrame:
    trials = pd.read_parquet(run / "trials.parquet")
    return trials.drop(columns=trials.filter(regex=CLOCKS).columns)


def test_a_run_writes_what_it_promises(explore, folder):
    code, out, _ = explore("run", *QUICK, "name=whole")
    assert code == 0, out
    run = folder / "results" / "whole"
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    plots = {f"plots/pareto-flops.{suffix}" for suffix in ("png", "svg", "pdf")}
    expected = {
        "config.yaml",
        "trials.parquet",
        "trials.csv",
        "frontier.csv",
        "study.journal",
        "run.log",
        "network.yaml",
    }
    assert files >= expected | plots
    trials, front = pd.read_csv(run / "trials.csv"), pd.read_csv(run / "frontier.csv")
    assert len(trials) == 10
    stored = pd.read_parquet(run / "trials.parquet")
    pd.testing.assert_frame_equal(trials.fillna(0), stored.fillna(0), check_dtype=False)
    assert set(front["trial"]) <= set(trials["trial"])
    assert (front["latency_ms"] > 0).all()
    assert "results/whole/plots/pareto-flops.png" in out
    network = Network.load(run / "network.yaml")
    recipes = {path.name: Recipe.load(path) for path in (run / "recipes").iterdir()}
    assert len(recipes) == len(front)
    for recipe in recipes.values():
        assert recipe == recipe.canonical(network)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["facts"]["hypervolume_reference"] == {"error": 0.9, "flops": 1.0}


def test_the_same_command_answers_a_finished_run_and_more_trials_continue_it(explore, folder):
    explore("run", *QUICK, "name=grown", "trials=6")
    journal = folder / "results" / "grown" / "study.journal"
    before = journal.read_bytes()
    code, out, _ = explore("run", *QUICK, "name=grown", "trials=6")
    assert code == 0
    assert "is finished" in out
    assert journal.read_bytes() == before
    first = table(folder / "results" / "grown")
    explore("run", *QUICK, "name=grown", "trials=9")
    grown = table(folder / "results" / "grown")
    assert len(grown) == 9
    pd.testing.assert_frame_equal(grown.iloc[:6], first)


def test_the_same_name_with_another_configuration_is_an_error(explore):
    explore("run", *QUICK, "name=taken", "trials=2")
    code, _, err = explore("run", *QUICK, "name=taken", "trials=2", "seed=7")
    assert code == 2
    assert err.count("\n") == 1
    assert "seed: 0 there, 7 here" in err


def test_a_budget_is_respected_by_every_trial(explore, folder):
    code, _, _ = explore("run", *QUICK, "name=half", "budget.flops=0.5", "sampler=random")
    assert code == 0
    assert (pd.read_csv(folder / "results/half/trials.csv")["flops_ratio"] <= 0.5).all()


def test_a_latency_objective_is_measured_for_every_candidate(explore, folder):
    code, _, _ = explore("run", *QUICK, "name=slow", "objectives=[error,latency]", "trials=4", "ladder=3")
    assert code == 0
    trials = pd.read_csv(folder / "results/slow/trials.csv")
    assert (trials["latency_ms"] > 0).all()


def test_export_is_loaded_without_the_dense_network(explore, folder):
    explore("run", *QUICK, "name=shipped")
    run = folder / "results" / "shipped"
    code, _, err = explore("export", str(run), "--flops", "0.7", "--out", "small")
    assert code == 0, err
    record = json.loads((folder / "small" / "model.json").read_text())
    row = pd.read_csv(run / "frontier.csv").query("flops_ratio <= .7").sort_values("error").iloc[0]
    assert record["metrics"]["trial"] == row["trial"]
    assert 0 <= record["metrics"]["test_error"] <= 1
    module = explorer.load(folder / "small")
    assert sum(p.numel() for p in module.parameters()) == row["params"]
    code, _, err = explore("export", str(run), "--flops", "0.0001")
    assert (code, err.count("\n")) == (2, 1)


def test_a_multirun_is_a_folder_a_job_and_grows(explore, folder):
    sweep = ["run", "-m", *QUICK, "trials=4", "ladder=2", "sampler=random,qmc"]
    code, out, err = explore(*sweep, "seed=0,1")
    assert code == 0, err
    (root,) = (folder / "results").glob("sweep-*")
    assert len(list(root.glob("*/config.yaml"))) == 4
    code, out, _ = explore(*sweep, "seed=0,1,2")
    assert code == 0
    assert out.count("is finished") == 4
    assert list((folder / "results").glob("sweep-*")) == [root]
    runs = [path.parent for path in root.glob("*/config.yaml")]
    assert len(runs) == 6
    fronts = pd.read_csv(root / "frontiers.csv")
    assert set(fronts["job"]) == {run.name for run in runs}
    assert len(fronts) == sum(len(pd.read_csv(run / "frontier.csv")) for run in runs)
    assert (root / "plots" / "granularities-resnet_digits-digits.png").exists()
    assert all(len(table(run)) == 4 for run in runs)


def test_a_failing_job_is_recorded_and_the_others_run(explore, folder, monkeypatch):
    (folder / "broken.py").write_text("import torch\ndef model(broken=0):\n    raise ValueError('no such head')\n")
    code, _, err = explore(
        "run", "-m", *QUICK, "trials=2", "ladder=0", "model._target_=broken.model,explorer.models.resnet_digits"
    )
    assert code == 2
    assert "model: model raised ValueError: no such head" in err
    runs = [path for path in (folder / "results").glob("sweep-*/*") if (path / "trials.csv").exists()]
    assert any(len(table(run)) == 2 for run in runs)


def test_inspect_says_what_is_known_of_resnet20(explore, folder):
    code, out, err = explore("inspect", "model=resnet20", "+model.in_channels=1", "budget.flops=0.5")
    assert code == 0, err
    assert "0.27 M parameters" in out
    assert "size of the space: 68,719,476,736 recipes on 12 axes" in out.replace("\n", " ")
    assert "tied to the model's output" in out.replace("\n", " ")


MISTAKES = {
    "unknown model": (["run", "model=resnet21"], "model: 'resnet21' is unknown, did you mean 'resnet"),
    "misspelt key": (["run", "trails=5"], "did you mean 'trials'"),
    "misspelt group": (["run", "modle=resnet20"], "did you mean 'model'"),
    "misspelt inner key": (["run", "budget.flop=.5"], "did you mean 'budget.flops'"),
    "added key": (["run", "+foo=1"], "key: 'foo' is unknown"),
    "unknown command": (["rum"], "did you mean 'run'"),
    "trials": (["run", "trials=0"], "trials: 0, allowed is a whole number >= 1"),
    "ratio 0": (["run", "space.channels=[{match: a, choices: [{granularity: filter, ratios: [0]}]}]"], "ratio 0"),
    "ratio 1.5": (["run", "space.channels=[{match: a, choices: [{granularity: filter, ratios: [1.5]}]}]"], "ratio 1.5"),
    "granularity": (["run", "space.channels=[{match: a, choices: [{granularity: filtre}]}]"], "did you mean 'filter'"),
    "no match": (
        ["run", "space.channels=[{match: block*, choices: [{granularity: filter, ratios: [1, .5]}]}]"],
        "'block*' matches none of the units",
    ),
    "empty regime": (["run", "budget.flops=0.001"], "budget.flops: [0, 0.001] of dense holds no recipe"),
    "budget": (["run", "budget.flops=-1"], "budget.flops: -1"),
    "no data folder": (["run", "data=images", "data.path=nowhere"], "data.path: 'nowhere' is no folder"),
    "no weights": (["run", "model.weights=nowhere.safetensors"], "model.weights: 'nowhere.safetensors' is no file"),
    "nothing to prune": (["run", "model=custom", "model._target_=torch.nn.Flatten"], "has nothing to prune"),
    "no target": (["run", "model=custom"], "model._target_: not given"),
    "bad target": (["run", "model=custom", "model._target_=nowhere.Net"], "model._target_: 'nowhere.Net' can't be"),
    "sampler option": (["run", "+sampler.options.foo=1"], "sampler.options: tpe"),
    "sweep without -m": (["run", "seed=0,1"], "-m is needed"),
    "reserved name": (["run", "name=reference"], "name: 'reference'"),
    "objective": (["run", "objectives=[error,flop]"], "did you mean 'flops'"),
    "device": (["run", "device=gpu"], "device: 'gpu'"),
    "space file": (["run", "space=file", "space.path=nowhere.yaml"], "space.path: 'nowhere.yaml' can't be read"),
    "words for a number": (
        ["run", "evaluator.batch_size=abc"],
        "evaluator.batch_size: 'abc', allowed is a whole number",
    ),
    "no calibration": (["run", "evaluator.calibration_batches=0"], "evaluator.calibration_batches: 0"),
    "epochs": (["run", "training.epochs=-1"], "training.epochs: -1"),
    "mean": (["run", "model.mean=1"], "model.mean: 1, allowed is a list"),
    "mean of letters": (["run", "model.mean=[a]", "model.std=[1]"], "model.mean: 'a'"),
    "nested objectives": (["run", "objectives=[[error]]"], "objectives: "),
    "budget of words": (["run", "budget.flops=abc"], "budget.flops: 'abc' is no amount"),
    "budget a number": (["run", "budget=3"], "budget"),
    "section removed": (["run", "~budget"], "budget: not given"),
    "key removed": (["run", "~seed"], "seed: not given"),
    "latency of words": (["run", "budget.latency_ms=abc"], "budget.latency_ms: 'abc'"),
    "nothing before =": (["run", "=3"], "config: "),
    "config dir": (["run", "--config-dir", "nowhere"], "--config-dir: 'nowhere' is no folder"),
    "added to a closed group": (["run", "+evaluator.foo=3"], "key: 'evaluator.foo' is unknown"),
    "key of another option": (["run", "data.validation=2"], "key: 'data.validation' is unknown"),
    "folder in a name": (["run", "model.name=a/b"], "the run's name: 'a/b-digits"),
    "hidden name": (["run", "name=.cache"], "name: '.cache'"),
    "sampler option of words": (["run", "+sampler.options.n_startup_trials=abc"], "sampler.options: tpe can't work"),
    "outputs": (["run", "+model.num_classes=4"], "model: it returns a torch.float32 tensor of shape [2, 4]"),
    "swept name": (["run", "-m", "name=a,b"], "name: it can't be swept"),
    "export without a folder": (["export"], "export: the following arguments are required: folder"),
    "inspect in vain": (["inspect", "-m", "model=resnet_digits,resnet21"], "model: 'resnet21' is unknown"),
    "export of nothing": (["export", "nowhere"], "folder: 'nowhere' is no folder"),
    "storage": (
        ["run", "storage=rdb", "storage.url=nodb://x:secret@y/z", "trials=1"],
        "storage.url: 'nodb://x:***@y/z'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2_and_writes_nothing(explore, folder, name):
    arguments, message = MISTAKES[name]
    before = sorted(path for path in folder.rglob("*") if ".cache" not in path.parts)
    code, _, err = explore(*arguments)
    assert code == 2, err
    assert err.count("\n") == 1, err
    assert message in err
    assert sorted(path for path in folder.rglob("*") if ".cache" not in path.parts) == before


def test_a_checkpoint_of_another_network_is_one_line(explore, tmp_path):
    from safetensors.torch import save_file

    from explorer.models import build

    save_file({k: v.contiguous() for k, v in build("resnet20").state_dict().items()}, tmp_path / "other.safetensors")
    code, _, err = explore("run", f"model.weights={tmp_path / 'other.safetensors'}")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("explore: model.weights: ")


def test_a_corrupt_parquet_is_one_line(explore, tmp_path):
    (tmp_path / "train-00000.parquet").write_bytes(b"PAR1 not really PAR1")
    code, _, err = explore("run", "model=resnet20", "data=images", f"data.path={tmp_path}")
    assert (code, err.count("\n")) == (2, 1), err
    assert err.startswith("explore: data.path: ")


@pytest.mark.parametrize("trained", [False, True])
def test_a_results_folder_that_cannot_be_written_is_one_line(explore, tmp_path, monkeypatch, trained):
    monkeypatch.chdir(tmp_path)
    weights = []
    if trained:
        from safetensors.torch import save_file

        from explorer.models import build

        save_file({k: v.contiguous() for k, v in build("resnet_digits").state_dict().items()}, "dense.safetensors")
        weights = ["model.weights=dense.safetensors"]
    # a file in the folder's place: root, as in a container, may write to a read-only one
    (tmp_path / "results").write_text("")
    code, _, err = explore("run", *QUICK, *weights)
    assert (code, err.count("\n")) == (2, 1), err
    assert "can't be written" in err


def test_a_study_of_another_configuration_in_a_database_is_refused(explore, folder):
    database = ["storage=rdb", "storage.url=sqlite:///shared.db", "name=shared", "trials=2", "ladder=0"]
    code, _, err = explore("run", *QUICK, *database)
    assert code == 0, err
    shutil.rmtree(folder / "results" / "shared")
    code, _, err = explore("run", *QUICK, *database, "seed=5", "objectives=[error,params]")
    assert (code, err.count("\n")) == (2, 1), err
    assert "holds a study 'shared' of another configuration" in err


def test_a_run_is_not_continued_in_another_storage(explore):
    explore("run", *QUICK, "name=moved", "trials=2", "ladder=0")
    code, _, err = explore(
        "run", *QUICK, "name=moved", "trials=2", "ladder=0", "storage=rdb", "storage.url=sqlite:///m.db"
    )
    assert (code, err.count("\n")) == (2, 1)
    assert "is in its journal, not in sqlite:///m.db" in err


def test_passwords_are_in_no_file_and_in_no_message(explore, folder):
    url = "storage.url=nosuch://user:SECRET@host/db?password=SECRET"
    code, out, err = explore("run", "-m", *QUICK, "storage=rdb", url, "seed=0,1")
    assert code == 2
    assert "SECRET" not in out + err
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".yaml", ".log", ".json")]
    assert not any("SECRET" in path.read_text() for path in files)


def test_a_named_multirun_is_one_folder_with_a_job_each(explore, folder):
    code, _, err = explore("run", "-m", *QUICK, "trials=2", "ladder=0", "name=mine", "seed=0,1")
    assert code == 0, err
    assert len(list((folder / "results" / "mine").glob("*/config.yaml"))) == 2


def test_ctrl_c_while_latency_is_measured_leaves_tables_and_is_made_good(explore, folder, monkeypatch):
    from explorer.evaluation import Evaluator

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "timings", interrupted)
        code, _, _ = explore("run", *QUICK, "name=late", "trials=3", "ladder=0")
    assert code == 130
    assert len(pd.read_csv(folder / "results/late/trials.csv")) == 3
    code, out, _ = explore("run", *QUICK, "name=late", "trials=3", "ladder=0")
    assert code == 0
    assert "is finished" not in out
    assert "latency_ms" in pd.read_csv(folder / "results/late/frontier.csv")
    assert "dense network: " in (folder / "results/late/run.log").read_text()


def test_names_are_stable_and_change_with_what_changes_results():
    base = compose(["seed=1"])[0]
    for same in (["seed=1", "trials=3"], ["seed=1", "timeout=5"], ["seed=1", "storage=rdb", "storage.url=sqlite://"]):
        assert default_name(compose(same)[0]) == default_name(base)
    for other in (["seed=2"], ["seed=1", "budget.flops=.5"], ["seed=1", "training.epochs=3"], ["seed=1", "ladder=3"]):
        assert default_name(compose(other)[0]) != default_name(base)


def test_sweep_names_ignore_the_values_of_swept_keys():
    def name(*overrides: str) -> str:
        return sweep_name(compose(overrides), overrides)

    assert name("seed=0,1", "trials=3") == name("seed=0,1,2", "trials=5")
    assert name("seed=0,1") != name("seed=0,1", "budget.flops=.5")
    assert name("seed=0,1") != name("sampler=tpe,gp")
    assert name("seed=0,1", "budget.flops=[.3,.5]") != name("seed=0,1", "budget.flops=[.3,.6]")


@pytest.mark.parametrize("group", ["model", "data", "space", "criterion", "evaluator", "sampler", "storage"])
def test_every_option_of_every_group_composes(group):
    from explorer.config import conf

    needed = {"custom": f"{group}._target_=a.B", "rdb": "storage.url=sqlite://", "file": "space.path=x.yaml"}
    for path in (conf() / group).glob("*.yaml"):
        config = compose([f"{group}={path.stem}", *([needed[path.stem]] if path.stem in needed else [])])[0]
        assert config[group]["name"] == path.stem
        if path.stem not in ("file",):
            validate(config)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "explorer", "run", *QUICK, *arguments]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_until_done(folder: Path, kills: int, name: str, *arguments: str) -> int:
    """Run until the command ends by itself, killing it `kills` times at random moments of the search."""
    journal = folder / "results" / name / "study.journal"
    rng = random.Random(0)
    done = 0
    for attempt in range(kills + 1):
        at_start = lines_of(journal)
        process = start(folder, f"name={name}", *arguments)
        while attempt < kills and process.poll() is None:
            if lines_of(journal) > at_start:
                time.sleep(rng.random() * 0.4)
                process.send_signal(signal.SIGKILL)
                if rng.random() < 0.5 and journal.exists():
                    with journal.open("ab") as file:
                        file.write(b'{"op_code": 6, "torn')
                done += 1
                break
            time.sleep(0.005)
        _, err = process.communicate()
        if process.returncode == 0:
            return done
        assert process.returncode == -signal.SIGKILL, err
    raise AssertionError("the last, undisturbed start did not finish")


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_it_ends_with_the_uninterrupted_table(folder, kills):
    trials = "trials=14" if kills < 5 else "trials=80"
    whole = start(folder, "name=undisturbed", trials)
    _, err = whole.communicate()
    assert whole.returncode == 0, err
    name = f"killed{kills}"
    assert kill_until_done(folder, kills, name, trials) == kills
    expected, got = (table(folder / "results" / run) for run in ("undisturbed", name))
    pd.testing.assert_frame_equal(got, expected)
    ratios = got.filter(like="channels.")
    assert not ratios.duplicated().any()


def test_a_second_driver_is_told_so(folder):
    first = start(folder, "name=driven", "trials=400", "sampler=random")
    try:
        while lines_of(folder / "results/driven/study.journal") < 30 and first.poll() is None:
            time.sleep(0.05)
        second = start(folder, "name=driven", "trials=400", "sampler=random")
        _, err = second.communicate(timeout=120)
        assert second.returncode == 2
        assert "another process" in err
        assert err.count("\n") == 1
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate()
    assert first.returncode == 130
    assert len(pd.read_csv(folder / "results/driven/trials.csv")) > 0


def test_importing_is_quick_in_what_it_imports():
    code = "import sys, explorer, spaces, explorer.cli; print({'torch', 'optuna', 'pandas'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared weights and images")
def test_resnet20_on_cifar10(explore):
    weights = SHARED / "weights" / "resnet20-cifar10-jpeg.safetensors"
    code, out, err = explore(
        "inspect",
        "model=resnet20",
        "data=cifar10",
        f"data.path={SHARED / 'data' / 'cifar10-jpeg'}",
        f"model.weights={weights}",
        "model.mean=[.485,.456,.406]",
        "model.std=[.229,.224,.225]",
    )
    assert code == 0, err
    text = " ".join(out.split())
    assert "40.55 M multiply-adds" in text
    assert "0.27 M parameters" in text
    assert "dense test accuracy 88.4" in text
