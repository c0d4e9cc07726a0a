"""Runs that are killed, and runs that two processes drive."""

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
from running import QUICK, table


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
