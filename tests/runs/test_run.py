"""The command line, from outside: runs, resumed runs, sweeps and exports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

import explorer
from explorer.analysis.multirun_folder import MultirunFolder
from explorer.runs.composing import compose
from explorer.runs.config import RunConfig
from explorer.runs.identity import default_name, identity, sweep_name
from explorer.runs.multirun_frontiers import gather
from spaces import Network, Recipe
from tests.support.quick_runs import QUICK, table
from tests.support.run_folders import write_run

SHARED = Path(__file__).parents[3] / "shared"


def test_a_run_writes_what_it_promises(explore, folder):
    code, out, _ = explore("run", *QUICK, "name=whole")
    assert code == 0, out
    run = folder / "results" / "whole"
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    plots = {f"plots/{name}.{kind}" for name in ("pareto-flops", "sensitivity") for kind in ("png", "svg", "pdf")}
    expected = {
        "config.yaml",
        "trials.parquet",
        "trials.csv",
        "frontier.csv",
        "sensitivity.csv",
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


def test_what_is_done_before_the_first_trial_is_said(explore, folder):
    steps = ["tracing resnet_digits and checking its units ...", "scoring what can be pruned by l1 ..."]
    steps += ["measuring the dense network ...", "trying each choice alone, by which recipes are told apart"]
    code, out, err = explore("run", *QUICK, "name=steps", "trials=2", "ladder=1")
    assert code == 0, err
    places = [out.index(step) for step in steps]
    assert places == sorted(places)
    assert all(step.removesuffix(" ...") in (folder / "results" / "steps" / "run.log").read_text() for step in steps)
    assert "tracing" not in explore("run", *QUICK, "name=steps", "trials=2", "ladder=1")[1]


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


def test_a_runs_folder_is_inspected_without_its_model(explore, folder):
    explore("run", *QUICK, "name=shipped")
    code, out, err = explore("inspect", "results/shipped", "--json")
    assert code == 0, err
    facts = json.loads(out)
    model = json.loads(explore("inspect", "--json")[1])
    assert {key: facts[key] for key in ("units", "layers", "axes", "size")} == {
        key: model[key] for key in ("units", "layers", "axes", "size")
    }
    assert facts["summary"]["trials"] == 10
    code, out, err = explore("inspect", "results/shipped")
    assert code == 0, err
    assert "hypervolume" in out
    code, _, err = explore("inspect", "results")
    assert (code, err.count("\n")) == (2, 1), err


@pytest.mark.parametrize("group", ["model", "data", "task"])
def test_export_runs_no_code_that_a_strangers_folder_names(explore, folder, tmp_path, group):
    explore("run", *QUICK, "name=strange", "trials=2", "ladder=0")
    path = shutil.copytree(folder / "results" / "strange", tmp_path / "strange") / "config.yaml"
    config, touched = yaml.safe_load(path.read_text()), tmp_path / "touched"
    config[group] |= {"_target_": "pathlib.Path.touch", "self": str(touched)}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    code, _, err = explore("export", str(path.parent))
    assert (code, err.count("\n")) == (2, 1), err
    assert f"'pathlib.Path.touch' ({group}._target_)" in err
    assert "--allow pathlib.Path" in err
    assert not touched.exists()


def test_a_run_of_another_version_is_not_exported(explore, folder):
    explore("run", *QUICK, "name=older", "trials=2", "ladder=0")
    path = folder / "results" / "older" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    del config["task"]
    path.write_text(yaml.safe_dump(config))
    code, _, err = explore("export", "results/older")
    assert (code, err.count("\n")) == (2, 1), err
    assert "folder: the configuration of 'results/older' can't be used here any more (task: not given" in err


def test_the_frontiers_of_a_sweep_say_what_they_are_of(tmp_path):
    squares = {"error": {"label": "validation mean squared error", "scale": 1.0}}
    regression = {"task": {"name": "regression"}}
    a, b = ({"name": "timm", "architecture": name} for name in "ab")
    write_run(tmp_path / "a", summary=squares, **regression, model=a, criterion={"name": "taylor"})
    write_run(tmp_path / "b", summary=squares, **regression, model=b)
    write_run(tmp_path / "c")
    gather(MultirunFolder(tmp_path))
    table = pd.read_csv(tmp_path / "frontiers.csv").set_index("job")
    assert table["model"].to_dict() == {"a": "timm-a", "b": "timm-b", "c": "timm"}
    assert table["task"].tolist() == ["regression", "regression", "classification"]
    assert table["criterion"].tolist() == ["taylor", "l1", "l1"]
    assert table.loc["c", ["error_label", "error_scale"]].tolist() == ["validation error (%)", 100]
    plots = {path.stem for path in (tmp_path / "plots").iterdir()}
    expected = {"timm-a-d-regression", "timm-b-d-regression", "timm-d-classification"}
    assert plots == {f"granularities-{name}" for name in expected}


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
    from explorer.evaluation.meter import Meter

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "timings", interrupted)
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


@pytest.mark.parametrize(
    "group", ["model", "data", "space", "criterion", "evaluator", "sampler", "executor", "storage"]
)
def test_every_option_of_every_group_composes(group):
    from explorer.utils.conf import conf

    needed = {"custom": f"{group}._target_=a.B", "rdb": "storage.url=sqlite://", "file": "space.path=x.yaml"}
    needed |= dict.fromkeys(("timm", "torchvision", "transformers"), "model.architecture=x")
    needed |= {"text": "data.tokenizer=x", "grpc": "storage.url=localhost:13000", "slurm": "executor.workers=2"}
    for path in (conf() / group).glob("*.yaml"):
        config = compose([f"{group}={path.stem}", *([needed[path.stem]] if path.stem in needed else [])])[0]
        # a run on another library's model is named by its architecture
        assert config[group]["name"] in (path.stem, "x")
        # a file and a function are read, to know the space
        if path.stem != "file" and (group, path.stem) != ("space", "custom"):
            RunConfig.of(config)


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
    assert "11.58 ± 0.32 on test" in text


def test_flags_stand_anywhere(explore, folder):
    code, out, err = explore("run", *QUICK, "-m", "seed=5", "trials=2", "ladder=0")
    assert code == 0, err
    assert "frontiers of 1 jobs" in out


def test_a_run_is_told_by_the_code_of_the_users_own(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    target = ["model=custom", "model._target_=mine.Net"]
    names = []
    for text in ("class Net: pass", "class Net: pass  # changed", "class Net: pass"):
        (folder / "mine.py").write_text(text)
        names.append(default_name(compose(target)[0]))
    assert names[0] == names[2] != names[1]
    (folder / "tiny").mkdir()
    named = []
    for layers in (1, 2):
        (folder / "tiny" / "config.json").write_text(json.dumps({"n_layers": layers}))
        named.append(default_name(compose(["model=transformers", "model.architecture=./tiny"])[0]))
    assert named[0] != named[1]
    # not of ours, nor of installed packages
    assert "code" not in identity(compose(["model=resnet20"])[0])["model"]
    assert "code" not in identity(compose(["model=custom", "model._target_=torch.nn.Linear"])[0])["model"]


def test_an_untrained_network_is_warned_of(explore, folder):
    code, out, err = explore(
        "run", *QUICK, "training.learning_rate=1e-9", "training.seed=1", "trials=1", "ladder=0", "name=untrained"
    )
    assert code == 0, err
    assert "no better than a constant prediction" in " ".join(out.split())
