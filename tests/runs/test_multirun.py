"""Multiruns: every launcher makes the same jobs, a relaunch continues, and the sweep's table says how far they are."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from explorer.analysis.multirun_folder import MultirunFolder
from explorer.runs.composing import compose
from explorer.runs.config import RunConfig
from explorer.runs.multirun import plan
from tests.support.quick_runs import QUICK, table

SMALL = [*QUICK, "trials=3", "ladder=2", "sampler=random"]
LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5"],
}


def jobs_of(folder, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "results" / name / "jobs.csv")


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_all_launchers_make_the_same_jobs_and_continue_each_others(explore, folder, launcher):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher")
    # nothing is inside the second job's budget
    two = "budget.flops=0.9,0.0001"
    code, *_ = explore("run", "-m", *SMALL, "name=basic", two)
    assert code == 2
    sweep = ["run", "-m", *SMALL, f"name={launcher}"]
    code, *_ = explore(*sweep, *LAUNCHERS[launcher], two)
    assert code == 2
    expected, got = (jobs_of(folder, name).drop(columns="seconds") for name in ("basic", launcher))
    pd.testing.assert_frame_equal(got, expected)
    good, bad = expected.iloc[0], expected.iloc[1]
    assert (good["choices"], good["state"], good["trials"]) == ("budget.flops=0.9", "done", 3)
    assert (bad["choices"], bad["state"].partition(":")[0]) == ("budget.flops=0.0001", "failed")
    assert bad[["trials", "hypervolume", "error_at_0.5"]].isna().all()
    front = pd.read_csv(folder / "results/basic" / good["job"] / "frontier.csv")
    least = front.loc[front["flops_ratio"] <= 0.5, "error"].min()
    assert good["error_at_0.5"] == pytest.approx(least, nan_ok=True)
    pd.testing.assert_frame_equal(*(table(folder / "results" / name / good["job"]) for name in ("basic", launcher)))
    code, out, _ = explore(*sweep, f"{two},0.8")
    assert code == 2, "what failed is tried again"
    assert out.count("is finished") == 1
    assert "job 3 of 3: budget.flops=0.8" in out
    assert "3 of 3 jobs are done; budget.flops=0.8: done, 3 trials" in out
    assert not list((folder / "results").glob(".multirun-*"))


def test_the_folder_of_a_multirun_tells_its_jobs_and_answers_for_their_runs(explore, folder):
    sweep = [*SMALL, "sampler=random", "seed=6,7"]
    code, out, err = explore("run", "-m", *sweep)
    assert code == 0, err
    (root,) = (path for path in (folder / "results").glob("sweep-*") if len(list(path.glob("*-s6-*"))))
    jobs = [path.parent for path in sorted(root.glob("*/summary.json"))]
    # errors as everywhere: per cent
    assert "error (%)" in out
    code, shown, err = explore("inspect", str(root.relative_to(folder)))
    assert code == 0, err
    assert "error (%)" in shown
    assert all(str(job.relative_to(folder)) in shown for job in jobs)
    assert [row["choices"] for row in json.loads(explore("inspect", str(root), "--json")[1])] == ["seed=6", "seed=7"]
    code, _, err = explore("export", str(root))
    assert (code, err.count("\n")) == (2, 1)
    assert f"is a multirun's, allowed is that of a job: {jobs[0].name}, {jobs[1].name}" in err

    code, out, err = explore("run", *SMALL, "sampler=random", "seed=7")
    assert code == 0, err
    assert f"the same run is a job of {root.relative_to(folder)}" in out
    assert "is finished" in out
    assert not (folder / "results" / jobs[1].name).exists()
    code, out, err = explore("run", *SMALL, "sampler=random", "seed=7", "trials=4")
    assert code == 0, err
    assert len(pd.read_csv(jobs[1] / "trials.csv")) == 4
    assert pd.read_csv(root / "jobs.csv")["trials"].tolist() == [3, 4]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm"])
def test_a_missing_launcher_is_named_with_its_command(explore, launcher, monkeypatch):
    monkeypatch.setattr("explorer.runs.multirun._there", lambda module: False)
    code, _, err = explore("run", "-m", *SMALL, f"hydra/launcher={launcher}", "seed=0,1")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'pruning-spaces[multirun]'" in err


def test_an_unknown_launcher_is_one_line(explore):
    code, _, err = explore("run", "-m", *SMALL, "hydra/launcher=jobli", "seed=0,1")
    assert (code, err.count("\n")) == (2, 1)
    assert "hydra/launcher: 'jobli', allowed are basic, joblib" in err


def test_swept_storages_are_shown_without_their_passwords(tmp_path):
    urls = [f"postgresql+psycopg://u:secret@h/{name}" for name in "ab"]
    overrides = ["storage=rdb", f"storage.url={','.join(urls)}", "seed=0,1"]
    plan(MultirunFolder(tmp_path), [RunConfig.of(config) for config in compose(overrides)], overrides)
    written = (tmp_path / "jobs.csv").read_text()
    assert "u:***@h/b" in written
    assert "secret" not in written
