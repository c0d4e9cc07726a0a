"""The page on extending is a module as it stands: its objects explore together, and each takes a few lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.support.pages import ROOT, blocks

PAGE = ROOT / "docs" / "extending.md"


@pytest.fixture
def mine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's blocks as mine.py in the working folder."""
    (folder / "mine.py").write_text("\n\n".join(blocks(PAGE, "python")))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    # that of another test
    sys.modules.pop("mine", None)
    yield folder
    sys.modules.pop("mine", None)


def test_every_extension_takes_less_than_twenty_lines() -> None:
    for block in blocks(PAGE, "python"):
        assert len([line for line in block.splitlines() if line]) < 20, block


def test_the_command_takes_all_of_them_together(explore, mine: Path) -> None:
    code, _, err = explore(
        "run",
        *("model=custom", "model._target_=mine.Net", "+model.width=12", "data=custom", "data._target_=mine.load"),
        *("task=custom", "task._target_=mine.task", "criterion=custom", "criterion._target_=mine.powered"),
        *("space=custom", "space._target_=mine.wide_tiles", "+space.width=4", "+criterion.power=2"),
        *("sampler=custom", "sampler._target_=mine.groups", "+sampler.options.group=false"),
        *("training.epochs=1", "evaluator.calibration_batches=1", "trials=3", "latency.seconds=0", "name=all"),
    )
    assert code == 0, err
    trials = pd.read_csv(mine / "results" / "all" / "trials.csv")
    assert set(trials["state"]) == {"COMPLETE"}
    assert trials["weights.first"].dropna().str.contains("width=4").all()


def test_an_object_of_torchmetrics_is_a_metric(mine: Path) -> None:
    pytest.importorskip("torchmetrics", exc_type=(ImportError, RuntimeError))
    import mine as module  # type: ignore[import-not-found]

    assert module.f1().label == "1 - F1"


def test_python_takes_the_objects_themselves(mine: Path) -> None:
    import mine as module  # type: ignore[import-not-found]

    study = module.explored()
    assert len(study.trials) == 4
    assert study.problem.scale.error.label == "validation 1 - accuracy"
