"""The executors' section of the configuration, and their benchmark at tiny sizes."""

from __future__ import annotations

import os

import pandas as pd
import pytest
import yaml

from explorer.bench import run_bench
from explorer.search.executors import EXECUTORS, check_executor, make_executor, worker_threads
from explorer.search.jobs import Job
from explorer.utils.conf import conf
from spaces import PruningError, Recipe
from tests.search.test_executors import INLINE, LOCAL, RAY, SLURM

TINY = ["executors.models=[resnet_digits]", "executors.candidates=1", "executors.turns=1", "executors.seconds=0.02"]
TINY += [
    "executors.model=resnet_digits",
    "executors.workers=2",
    "executors.trials=[2,4]",
    "executors.samplers=[random]",
]
TINY += ["evaluate.images=4", "evaluate.batch_size=2", "evaluate.calibration_batches=1"]


def test_every_section_of_conf_is_allowed():
    for name in EXECUTORS:
        section = yaml.safe_load((conf() / "executor" / f"{name}.yaml").read_text())
        check_executor(section | ({"workers": 2} if name == "slurm" else {}))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (INLINE | {"name": "locl"}, "executor: 'locl' is unknown, did you mean 'local'?"),
        (LOCAL | {"workers": 0}, "executor.workers: 0, allowed is a whole number >= 1"),
        (LOCAL | {"workers": 100_000}, "executor.workers: 100000, allowed is a whole number >= 1 and <= 1024"),
        (LOCAL | {"threads": 1.5}, "executor.threads: 1.5, allowed is a whole number >= 1"),
        (RAY | {"cpus": 0}, "executor.cpus: 0, allowed is a number > 0"),
        (RAY | {"gpus": -1}, "executor.gpus: -1, allowed is a number >= 0"),
        (RAY | {"address": 3}, "executor.address: 3, allowed is a word or null"),
        (SLURM | {"workers": None}, "executor.workers: None, allowed is a whole number >= 1"),
        (SLURM | {"gpus": 0.5}, "executor.gpus: 0.5, allowed is a whole number >= 0"),
        (SLURM | {"cluster": "pbs"}, "executor.cluster: 'pbs' is unknown. Allowed:"),
        (SLURM | {"parameters": 1}, "executor.parameters: 1, allowed is a section of keys"),
    ],
)
def test_mistakes_are_told_in_one_line(section, said):
    with pytest.raises(PruningError) as caught:
        check_executor(section)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("openmp", "threads", "used"),
    [(None, None, None), ("", None, None), ("3", None, 3), ("3", 2, 2), ("5,2", None, 5), ("0", None, None)],
)
def test_local_workers_use_the_threads_that_are_recorded(openmp, threads, used, tmp_path, monkeypatch):
    """Those of the section, else of OMP_NUM_THREADS, else their share of the cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if openmp is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    section = {**LOCAL, "workers": 1, "threads": threads}
    recorded = worker_threads(section, "cpu")
    assert recorded == (len(os.sched_getaffinity(0)) if used is None else used)
    executor = make_executor(section, openmp_threads, folder=tmp_path, device="cpu")
    try:
        executor.submit(Job(0, Recipe()))
        ((_, result),) = executor.wait()
        assert result.metrics == {"threads": recorded}
    finally:
        executor.close()


def openmp_threads(job: Job) -> dict[str, float]:
    return {"threads": int(os.environ["OMP_NUM_THREADS"])}


def test_who_evaluates_in_the_driver_has_no_threads_of_its_own():
    assert worker_threads(INLINE, "cpu") is None
    assert worker_threads(RAY | {"cpus": 0.5}, "cpu") == 1
    assert worker_threads(SLURM | {"cpus": 4}, "cpu") == 4


@pytest.mark.parametrize(
    ("part", "rows"), [pytest.param("workers", 2, marks=pytest.mark.slow), ("busy", 1), ("recorded", 1)]
)
def test_the_benchmark_writes_its_figures(part, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_bench(["executors", f"executors.parts=[{part}]", *TINY]) == 0
    table = pd.read_csv("results/bench/executors.csv")
    assert len(table) == rows
    assert (table["figure"] > 0).all()
    assert part != "busy" or (table["figure"] <= 1).all()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("executors.trials=[5,5]", "executors.trials: [5, 5], allowed are two numbers, the second greater"),
        ("executors.seconds=0", "executors.seconds: 0, allowed is a number > 0"),
        ("executors.parts=[bussy]", "executors.parts: 'bussy' is unknown, did you mean 'busy'?"),
    ],
)
def test_mistakes_of_the_benchmark_are_told(override, said):
    with pytest.raises(PruningError) as caught:
        run_bench(["executors", override])
    assert str(caught.value).startswith(said)
