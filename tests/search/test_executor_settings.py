"""The executors' section of the configuration, and their benchmark at tiny sizes."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from explorer.bench import run_bench
from explorer.search.executors import EXECUTORS, check_executor
from explorer.utils.conf import conf
from spaces import PruningError
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
