"""The two doors, the command and `explorer.explore`: one engine, the same defaults, the same trials."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pandas as pd
import pytest

import explorer
from explorer.analysis.run_folder import RunFolder
from explorer.runs.config import RunConfig
from explorer.runs.setup import Setup
from tests.support.quick_runs import CLOCKS, QUICK, table


@pytest.fixture(scope="module")
def setup(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        found = Setup(RunConfig.composed(QUICK))
        return found, found.dense()


def from_python(setup, **options) -> explorer.Study:
    made, module = setup
    size = made.config.evaluator.batch_size
    # the command draws its inputs by its seed
    train = list(made.batches("train", 2 * size, seed=0))
    validation = list(made.batches("validation", made.config.evaluator.images, seed=0))
    return explorer.explore(module, train, validation, calibration_batches=2, trials=10, **options)


@pytest.mark.parametrize(
    "sampler", ["frontier", "random", *(pytest.param(n, marks=pytest.mark.slow) for n in ("tpe", "nsga2"))]
)
def test_both_find_the_same_trials(explore, folder, setup, sampler) -> None:
    code, _, err = explore("run", *QUICK, f"sampler={sampler}", f"name=door-{sampler}")
    assert code == 0, err
    study = from_python(setup, sampler=sampler)
    trials = study.trials.drop(columns=study.trials.filter(regex=CLOCKS).columns)
    run = folder / "results" / f"door-{sampler}"
    pd.testing.assert_frame_equal(trials, table(run))
    kept = RunFolder(run).sensitivity()
    # only one of them asks for it
    assert (kept is not None) == (sampler == "frontier") == study.problem.has_features
    if kept is not None:
        pd.testing.assert_frame_equal(study.sensitivity, kept)


def test_both_measure_the_same_baselines(explore, folder, setup) -> None:
    asked = ["baselines=[uniform,global]", "baseline_targets.flops=[.5]", "sampler=random", "name=door-baselines"]
    code, _, err = explore("run", *QUICK, *asked)
    assert code == 0, err
    study = from_python(setup, sampler="random", baselines=["uniform", "global"], baseline_targets={"flops": [0.5]})
    kept = pd.read_csv(folder / "results" / "door-baselines" / "baselines.csv")
    columns = ["baseline", "achieved", "error", "flops", "params"]
    assert study.baselines is not None
    pd.testing.assert_frame_equal(study.baselines[columns], kept[columns])


def test_an_earlier_study_begins_the_next(setup) -> None:
    first = from_python(setup, sampler="random", seed=1)
    second = from_python(setup, warm_start=[first], ladder=0)
    same = from_python(setup, warm_start=[first.trials], ladder=0)
    pd.testing.assert_frame_equal(
        second.trials.drop(columns=second.trials.filter(regex=CLOCKS).columns),
        same.trials.drop(columns=same.trials.filter(regex=CLOCKS).columns),
    )


SEVERAL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, first=0.0):
        super().__init__()
        self.first = first
        self.stem, self.extra = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.body, self.head = nn.Conv2d(8, 6, 3, padding=1), nn.Linear(6, 10)

    def forward(self, x):
        features = self.stem(x).relu()
        if abs(float(x.mean()) - self.first) > 1e-6:
            features = self.extra(features).relu()
        return {"features": features, "logits": self.head(self.body(features).relu().mean((2, 3)))}
"""


def test_both_prune_what_the_task_does_not_read_and_reach_what_further_inputs_reach(explore, folder) -> None:
    (folder / "several.py").write_text(SEVERAL)
    made = Setup(RunConfig.composed(QUICK))
    mean = float(next(iter(made.batches("train", 1)))[0].mean())
    custom = [*QUICK, "model=custom", "model._target_=several.Net", f"+model.first={mean!r}"]

    def inspected(*more: str) -> list[str]:
        code, out, err = explore("inspect", *custom, *more, "--json")
        assert code == 0, err
        return [unit["name"] for unit in json.loads(out)["units"]]

    # what reads the first features was not reached
    assert inspected() == ["body"]
    assert inspected("model.examples=3") == ["stem", "body"]
    assert "model.examples: 0, allowed is" in explore("inspect", *custom, "model.examples=0")[2]
    batches = list(made.batches("train", 4, seed=0))
    namespace: dict[str, Any] = {}
    exec(SEVERAL, namespace)
    study = explorer.explore(namespace["Net"](), batches, batches, trials=1, ladder=0, sampler="random")
    # here every input takes the branch
    assert [unit.name for unit in study.problem.space.network.units] == ["stem", "extra", "body"]


def test_python_has_no_defaults_of_its_own() -> None:
    options = inspect.signature(explorer.explore).parameters.values()
    given = {option.name: option.default for option in options if option.kind is option.KEYWORD_ONLY}
    # where evaluations run and what is shown are no part of what is found
    told = {name: value for name, value in given.items() if value not in (None, ())}
    assert told == {"executor": "inline", "progress": True}


def test_python_shows_how_far_it_is_unless_told_otherwise(setup, monkeypatch, capsys) -> None:
    monkeypatch.setattr("explorer.utils.console._PAUSE", 0)
    seen: list[int] = []
    from_python(setup, sampler="random", on_record=lambda records: seen.append(len(records)))
    lines = capsys.readouterr().err.splitlines()
    assert seen == list(range(1, 11))
    assert [line.split(",")[0] for line in lines] == [f"exploring: {n} of 10" for n in seen]
    assert "hypervolume" in lines[-1]
    from_python(setup, sampler="random", progress=False)
    assert capsys.readouterr().err == ""
