"""Runs in MLflow: all that a run's folder holds, once, however often the command is given."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from explorer.analysis.run_folder import RunFolder
from tests.support.quick_runs import QUICK

COMMAND = ["run", *QUICK, "sampler=random", "latency.seconds=0", "name=given", "tracking=mlflow"]


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is not None, reason="MLflow is installed")
def test_without_mlflow_the_command_that_installs_it_is_said(explore) -> None:
    code, _, err = explore(*COMMAND)
    assert code == 2
    assert err.count("\n") == 1
    assert 'pip install "pruning-spaces[mlflow]"' in err


def test_an_unknown_tracker_is_refused(explore) -> None:
    code, _, err = explore("run", *QUICK, "tracking=mlflw")
    assert code == 2
    assert "did you mean 'mlflow'" in err


def test_a_run_is_logged_once_and_goes_on_there(explore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    for trials in (4, 4, 6):
        code, out, err = explore(*COMMAND, f"trials={trials}")
        assert code == 0, err
        assert "given of experiment mine" in out
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    there = RunFolder(folder / "results" / "given")
    trials = there.trials()
    assert isinstance(trials, pd.DataFrame)
    errors = client.get_metric_history(run.info.run_id, "error")
    assert [(metric.step, metric.value) for metric in errors] == list(
        zip(trials["trial"], trials["error"], strict=True)
    )
    assert len(client.get_metric_history(run.info.run_id, "hypervolume")) == len(trials) == 6
    summary = there.summary()
    assert summary is not None
    assert run.data.metrics["hypervolume"] == pytest.approx(summary["hypervolume"])
    assert run.data.metrics["dense_flops"] == summary["dense"]["flops"]
    assert run.data.params["sampler.name"] == "random"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"frontier.csv", "config.yaml", "plots"}


def test_a_server_that_is_away_is_a_warning(explore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    (folder / "blocked").write_text("no folder")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/blocked/mlflow.db")
    code, out, err = explore(*COMMAND, "trials=2")
    assert code == 0, err
    assert "mlflow could not log the run" in " ".join(out.split())
    assert RunFolder(folder / "results" / "given").summary() is not None
