"""A preset of one's own: a function that returns a space, by its import path, and from Python its value."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import explorer
from tests.support.quick_runs import QUICK

PRESET = """
def wide_tiles(width=8, ratios=(0.5, 0.25)):
    tiles = {"granularity": "tile", "width": width, "ratios": list(ratios)}
    return {"weights": [{"match": "*", "choices": [{"granularity": "none"}, tiles]}]}

def nothing():
    return None

def fails():
    raise KeyError("no such layer")
"""
KEYS = [*QUICK, "trials=3", "ladder=0", "sampler=random", "space=custom"]


@pytest.fixture(autouse=True)
def presets(folder: Path) -> None:
    (folder / "presets.py").write_text(PRESET)


def test_the_command_takes_a_function_and_its_arguments(explore, folder: Path) -> None:
    code, _, err = explore("run", *KEYS, "space._target_=presets.wide_tiles", "+space.width=4", "name=tiles")
    assert code == 0, err
    run = folder / "results" / "tiles"
    trials = pd.read_csv(run / "trials.csv")
    assert set(trials["granularity"]) <= {"tile", "dense"}
    assert trials.filter(like="weights.").melt()["value"].dropna().str.contains("width=4").all()
    # what it returned is part of the run, and inspected without it
    assert yaml.safe_load((run / "config.yaml").read_text())["identity"]["space"]["weights"][0]["match"] == "*"
    (folder / "presets.py").unlink()
    assert explore("inspect", str(run))[0] == 0
    (folder / "presets.py").write_text(PRESET)
    code, _, err = explore("run", *KEYS, "space._target_=presets.wide_tiles", "+space.width=8", "name=tiles")
    assert (code, err.count("\n")) == (2, 1)
    assert "holds another configuration (space.weights" in err
    # somebody else's function is asked about
    code, _, err = explore("export", str(run))
    assert (code, err.count("\n")) == (2, 1)
    assert "--allow presets" in err


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["space._target_=presets.wide_tile"], "space._target_: 'presets.wide_tile' can't be imported"),
        (
            ["space._target_=presets.nothing"],
            "space._target_: 'presets.nothing' returns a NoneType, needed is a mapping",
        ),
        (["space._target_=presets.fails"], "space: fails raised KeyError: 'no such layer'"),
        (["space._target_=presets.wide_tiles", "+space.widht=4"], "space: 'widht' is unknown, did you mean 'width'?"),
        (["space._target_=presets.wide_tiles", "+space.ratios=[2]"], "ratio 2 is not a share kept"),
        ([], "space._target_: not given, and needed"),
    ],
)
def test_mistakes_are_one_line(explore, folder: Path, keys: list[str], message: str) -> None:
    code, _, err = explore("run", *KEYS, *keys, "name=mistake")
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert not (folder / "results" / "mistake").exists()


def test_python_takes_what_the_function_returns() -> None:
    names: dict[str, object] = {}
    exec(PRESET, names)
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    space = names["wide_tiles"](width=2)  # type: ignore[operator]
    study = explorer.explore(model, [(x, y)], [(x, y)], space=space, trials=2, ladder=0, sampler="random")
    assert study.trials["granularity"].isin(["tile", "dense"]).all()
