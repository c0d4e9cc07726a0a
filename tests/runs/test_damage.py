"""Damaged and missing files of a run, disks that are full and folders that are read-only: healed, or one line."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from explorer.analysis.run_folder import RunFolder
from tests.support.quick_runs import QUICK, table

COMMAND = ["run", *QUICK, "trials=3", "ladder=0", "sampler=random"]
FILES = ["config.yaml", "summary.json", "frontier.csv", "network.yaml", "trials.parquet"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def shortened(path: Path) -> None:
    """Leave out the last line: what is left is whole lines."""
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


DAMAGES = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut": cut,
    "shortened": shortened,
    "a list": lambda path: path.write_text("[1, 2]\n"),
    "other columns": lambda path: path.write_text("a,b\n1,2\n"),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
}


@pytest.fixture
def run(explore, folder) -> Path:
    """A finished run, each time a copy of the same."""
    whole = folder / "results" / "whole"
    if not whole.exists():
        code, out, err = explore(*COMMAND, "name=whole")
        assert code == 0, out + err
    shutil.rmtree(folder / "results" / "damaged", ignore_errors=True)
    shutil.copytree(whole, folder / "results" / "damaged")
    # the study is called after its folder
    path = folder / "results" / "damaged" / "study.journal"
    path.write_text(path.read_text().replace('"whole"', '"damaged"'))
    return folder / "results" / "damaged"


def assert_whole(run: Path, before: pd.DataFrame) -> None:
    assert RunFolder(run).damaged() == []
    pd.testing.assert_frame_equal(table(run), before)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_reader_takes_a_damaged_file_for_none(run, name, damage):
    DAMAGES[damage](run / name)
    folder = RunFolder(run)
    assert name in folder.damaged()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "shortened", "a list"])
def test_a_damaged_recipe_is_found(run, damage):
    path = next((run / "recipes").glob("trial-*.yaml"))
    DAMAGES[damage](path)
    assert RunFolder(run).damaged() == [f"recipes/{path.name}"]


@pytest.mark.parametrize("name", [*FILES, "recipes"])
def test_the_same_command_makes_a_damaged_file_again(explore, run, name):
    before = table(run)
    if name == "recipes":
        shutil.rmtree(run / name)
    else:
        cut(run / name)
    code, out, err = explore(*COMMAND, "name=damaged")
    assert (code, err) == (0, ""), err
    assert "is finished" not in out
    assert_whole(run, before)
    code, out, _ = explore(*COMMAND, "name=damaged")
    assert (code, "is finished" in out) == (0, True)


def test_several_damaged_files_are_made_again_at_once(explore, run):
    before = table(run)
    for name, damage in zip(FILES, list(DAMAGES), strict=False):
        DAMAGES[damage](run / name)
    code, _, err = explore(*COMMAND, "name=damaged")
    assert (code, err) == (0, ""), err
    assert_whole(run, before)


@pytest.mark.parametrize("damage", ["missing", "cut", "a list"])
def test_a_run_without_its_configuration_is_not_answered_to_another(explore, run, damage):
    DAMAGES[damage](run / "config.yaml")
    files = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in (".csv", ".json", ".parquet")}
    code, out, err = explore(*COMMAND, "name=damaged", "seed=9")
    assert (code, err.count("\n")) == (2, 1), err
    assert "of another configuration" in err
    assert "is finished" not in out
    assert RunFolder(run).config() is None
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize("name", FILES[:4])
def test_export_names_the_file_that_is_damaged(explore, run, name):
    cut(run / name)
    code, _, err = explore("export", str(run))
    assert (code, err.count("\n")) == (2, 1), err
    assert name in err


@pytest.mark.parametrize("text", ["", "- 1\n", "channels: [\n", "channels: {nothing: 0.5}\n", "a: 1\n"])
def test_export_of_a_damaged_recipe_is_one_line(explore, run, text):
    path = next((run / "recipes").glob("trial-*.yaml"))
    path.write_text(text)
    code, _, err = explore("export", str(run), "--recipe", str(path))
    assert (code, err.count("\n")) == (2, 1), err


@pytest.mark.slow
def test_a_multirun_makes_its_damaged_table_again(explore, folder):
    multirun = [*COMMAND[:1], "-m", *COMMAND[1:], "name=several", "seed=0,1"]
    code, _, err = explore(*multirun)
    assert code == 0, err
    jobs = folder / "results" / "several" / "jobs.csv"
    expected = pd.read_csv(jobs).drop(columns="seconds")
    for damage in DAMAGES.values():
        damage(jobs)
        (folder / "results" / "several" / "frontiers.csv").write_text("")
        code, _, err = explore(*multirun)
        assert (code, err) == (0, "")
        pd.testing.assert_frame_equal(pd.read_csv(jobs).drop(columns="seconds"), expected)


def test_a_baseline_of_a_damaged_table_is_evaluated_again(explore, run):
    command = [*COMMAND, "name=damaged", "baselines=[uniform]", "baseline_targets.flops=[0.5]"]
    explore(*command)
    expected = pd.read_csv(run / "baselines.csv").drop(columns="seconds")
    cut(run / "baselines.csv")
    code, _, err = explore(*command)
    assert (code, err) == (0, "")
    pd.testing.assert_frame_equal(pd.read_csv(run / "baselines.csv").drop(columns="seconds"), expected)


# --- the machine


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_disk_that_refuses_is_one_line_with_its_reason_and_nothing_is_lost(explore, run, monkeypatch, number):
    before = table(run)
    (run / "summary.json").unlink()

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", refuse)
        code, _, err = explore(*COMMAND, "name=damaged")
    assert (code, err.count("\n")) == (2, 1), err
    assert f"trials.parquet' can't be written: {os.strerror(number)}" in err
    assert not list(run.glob(".trials*"))
    code, _, err = explore(*COMMAND, "name=damaged")
    assert (code, err) == (0, "")
    assert_whole(run, before)


def test_a_writer_that_hides_a_full_disk_is_seen_through(explore, run, monkeypatch):
    def hiding(*arguments: object, **options: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    (run / "summary.json").unlink()
    monkeypatch.setattr(pd.DataFrame, "to_parquet", hiding)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 0))
    code, _, err = explore(*COMMAND, "name=damaged")
    assert (code, err.count("\n")) == (2, 1), err
    assert os.strerror(errno.ENOSPC) in err


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_a_name_that_no_folder_can_have_is_one_line(explore, folder, flags):
    there = set((folder / "results").glob("*"))
    code, _, err = explore("run", *flags, *QUICK, f"name={'n' * 300}")
    assert (code, err.count("\n")) == (2, 1), err
    assert set((folder / "results").glob("*")) == there


@pytest.mark.parametrize("flags", [[], ["-m"]])
def test_results_that_are_no_folder_are_one_line(tmp_path, flags):
    # a folder without permission would not stop a test that root runs
    (tmp_path / "results").write_text("")
    command = [sys.executable, "-m", "explorer", "run", *flags, *COMMAND[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    code, err = done.returncode, done.stderr
    assert (code, err.count("\n")) == (2, 1), err
    assert "Not a directory" in err or "File exists" in err


def test_a_configuration_that_ends_early_is_no_configuration(tmp_path):
    folder = RunFolder(tmp_path)
    facts = {"data_identity": "d", "network": "n", "machine": "m"}
    folder.write_config({"seed": 0, "identity": {}, "facts": facts})
    assert folder.config() == {"seed": 0, "identity": {}, "facts": facts}
    text = (tmp_path / "config.yaml").read_text()
    for length in range(len(text)):
        (tmp_path / "config.yaml").write_text(text[:length])
        assert folder.config() is None
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"identity": 1, "facts": facts}))
    assert folder.config() is None
