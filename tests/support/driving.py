"""A driver of a synthetic study, as a process that tests start and kill; it writes down what it evaluates."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna

from explorer.search.executors import make_executor
from explorer.search.jobs import Job
from explorer.search.search import Search
from explorer.search.storage import open_study, shared_storage
from spaces import Budget

OBJECTIVES = ["error", "flops"]


@dataclass(frozen=True)
class Noting:
    """Measures nothing, and leaves a line for every evaluation: the trial and the process."""

    path: Path
    seconds: float

    def __call__(self, job: Job) -> dict[str, float]:
        with self.path.open("a") as file:
            file.write(f"{job.number} {os.getpid()}\n")
        time.sleep(self.seconds * (0.5 + random.random()))
        kept = sum(job.recipe.ratios.get(f"l{i}", 1.0) for i in range(4)) / 4
        return {"error": 1 - kept, "error_se": 0.01, "loss": 1.0}


class Driving:
    """A study, the processes that drive it and the lines they leave."""

    def __init__(self, url: str, folder: Path, *, trials: int, seconds: float = 0.02, workers: int = 0) -> None:
        self.url, self.folder, self.trials = url, folder, trials
        self.notes = folder / "notes"
        self.notes.touch()
        self._arguments = [f"--seconds={seconds}", f"--workers={workers}", f"--trials={trials}"]

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.support.driving", self.url, str(self.folder), *self._arguments]
        root = Path(__file__).parents[2]
        return subprocess.Popen(command, text=True, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.notes.read_text().splitlines()]

    def study(self) -> optuna.Study:
        return open_study(shared_storage(self.url), "s", OBJECTIVES)

    def wait_for(self, lines: int, process: subprocess.Popen[str]) -> None:
        """Wait until so many evaluations began, for which the process must not end."""
        while len(self.lines()) < lines:
            if process.poll() is not None:
                raise AssertionError(f"it ended early: {process.communicate()}")
            time.sleep(0.005)

    def check(self, interruptions: int, *, repeated: int = 0) -> None:
        """Assert that nothing was lost or done twice, but for what was interrupted.

        Parameters
        ----------
        interruptions
            How many evaluations at most were under way in drivers that were killed.
        repeated
            How many at most were given to another worker after theirs was killed.
        """
        trials = self.study().get_trials()
        assert not [trial.number for trial in trials if not trial.state.is_finished()]
        kept = [trial for trial in trials if not trial.user_attrs.get("interrupted")]
        evaluated = [t for t in kept if t.user_attrs["proposal"]["outcome"] in ("COMPLETE", "FAIL")]
        rows = Counter(tuple(trial.user_attrs["proposal"]["row"]) for trial in evaluated)
        assert [row for row, times in rows.items() if times > 1] == []
        assert len(evaluated) == self.trials
        numbers = Counter(int(number) for number, *_ in self.lines())
        # one line for each evaluation that counts, and none for what needed none
        assert set(numbers) >= {trial.number for trial in evaluated}
        lost = set(numbers) - {trial.number for trial in evaluated}
        assert len(lost) <= interruptions
        assert all(trials[number].user_attrs.get("interrupted") for number in lost)
        assert sum(numbers.values()) - len(numbers) <= repeated


def finish(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def main() -> None:
    from tests.support.synthetic import chain, space_of

    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--trials", type=int)
    given = parser.parse_args()
    # an executor for what is evaluated in other processes
    section: Mapping[str, object] = {"name": "local", "workers": given.workers, "threads": 1}
    folder = given.folder / str(os.getpid())
    executor = make_executor(
        section if given.workers else {"name": "inline"},
        Noting(given.folder / "notes", given.seconds),
        folder=folder,
        device="cpu",
    )
    try:
        search = Search(
            open_study(shared_storage(given.url), "s", OBJECTIVES),
            space_of(chain([8] * 4 + [10]), (1, 0.875, 0.75, 0.625, 0.5, 0.25)),
            executor,
            objectives=OBJECTIVES,
            budget=Budget.parse({}),
            sampler="random",
            options={},
            seed=0,
            ladder=[],
            dense={"error": 0.0, "error_se": 0.0, "loss": 0.0},
        )
        search.run(given.trials)
    finally:
        executor.close()


if __name__ == "__main__":
    main()
