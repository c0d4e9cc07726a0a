"""Drivers, workers and databases that are killed, and studies that several processes drive."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.support.driving import Driving, finish, kill
from tests.support.quick_runs import QUICK, table
from tests.support.servers import PostgreSQL, free_port

KILLS = [2, pytest.param(20, marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def server():
    postgres = PostgreSQL()
    yield postgres
    postgres.close()


def kinds(quick: str, slow: str) -> list[object]:
    return [quick, pytest.param(slow, marks=pytest.mark.slow)]


@pytest.fixture
def url(request, tmp_path):
    if request.param == "journal":
        return str(tmp_path / "study.journal")
    return request.getfixturevalue("server").new(f"d{free_port()}")


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


@pytest.mark.parametrize("kills", KILLS)
def test_killed_at_random_moments_it_ends_with_the_uninterrupted_table(explore, folder, kills):
    trials = "trials=14" if kills < 5 else "trials=80"
    code, _, err = explore("run", *QUICK, "name=undisturbed", trials)
    assert code == 0, err
    name = f"killed{kills}"
    assert kill_until_done(folder, kills, name, trials) == kills
    expected, got = (table(folder / "results" / run) for run in ("undisturbed", name))
    pd.testing.assert_frame_equal(got, expected)
    ratios = got.filter(like="channels.")
    assert not ratios.duplicated().any()


def test_a_second_driver_is_told_so(explore, folder):
    first = start(folder, "name=driven", "trials=400", "sampler=random")
    try:
        while lines_of(folder / "results/driven/study.journal") < 30 and first.poll() is None:
            time.sleep(0.05)
        code, _, err = explore("run", *QUICK, "name=driven", "trials=400", "sampler=random")
        assert code == 2
        assert "another process" in err
        assert err.count("\n") == 1
    finally:
        first.send_signal(signal.SIGTERM)
        first.communicate()
    assert first.returncode == 130
    assert len(pd.read_csv(folder / "results/driven/trials.csv")) > 0


@pytest.mark.parametrize("url", kinds("postgresql", "journal"), indirect=True)
def test_three_drivers_of_a_study_neither_lose_nor_repeat_anything(url, tmp_path):
    driving = Driving(url, tmp_path, trials=30)
    for process in [driving.start() for _ in range(3)]:
        finish(process)
    driving.check(0)


@pytest.mark.parametrize("url", kinds("journal", "postgresql"), indirect=True)
@pytest.mark.parametrize("kills", KILLS)
def test_of_two_drivers_either_may_be_killed_at_any_moment(url, tmp_path, kills):
    driving = Driving(url, tmp_path, trials=18 * kills)
    rng = random.Random(kills)
    processes = [driving.start(), driving.start()]
    for done in range(1, kills + 1):
        victim = rng.randrange(2)
        driving.wait_for(14 * done, processes[victim])
        time.sleep(rng.random() * 0.05)
        kill(processes[victim])
        processes[victim] = driving.start()
    for process in processes:
        finish(process)
    driving.check(kills)


@pytest.mark.parametrize("kills", KILLS)
def test_a_killed_worker_costs_no_result(tmp_path, kills):
    driving = Driving(str(tmp_path / "study.journal"), tmp_path, trials=20 * kills, seconds=0.1, workers=2)
    rng = random.Random(kills)
    process = driving.start()
    for done in range(1, kills + 1):
        driving.wait_for(15 * done, process)
        time.sleep(rng.random() * 0.1)
        os.kill(int(driving.lines()[-1][1]), signal.SIGKILL)
    finish(process)
    driving.check(0, repeated=kills)


@pytest.mark.parametrize("restarts", KILLS)
def test_a_database_may_restart_at_any_moment(server, tmp_path, restarts):
    driving = Driving(server.new(f"d{free_port()}"), tmp_path, trials=18 * restarts)
    rng = random.Random(restarts)
    processes = [driving.start(), driving.start()]
    for done in range(1, restarts + 1):
        driving.wait_for(14 * done, processes[0])
        time.sleep(rng.random() * 0.05)
        server.restart(rng.random() * 0.5)
    for process in processes:
        finish(process)
    driving.check(0)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["storage=rdb storage.url=sqlite:///{}/shared.db", "storage.url={}/shared.journal"])
def test_the_same_command_from_another_folder_joins_the_study(tmp_path, storage):
    shared = [*storage.format(tmp_path).split(), "sampler=random", "trials=12"]
    folders = [tmp_path / "here", tmp_path / "there"]
    processes = []
    for place in folders:
        place.mkdir()
        processes.append(start(place, *shared))
    for process in processes:
        finish(process)
    here, there = (table(run) for place in folders for run in place.glob("results/resnet*"))
    assert len(here) == 12
    assert not here.filter(like="channels.").duplicated().any()
    pd.testing.assert_frame_equal(here, there)
