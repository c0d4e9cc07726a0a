"""Solving against training at equal seconds: figures are those of the rows, and the rows of the recipes."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from explorer.bench import run_bench
from explorer.bench.training import figures
from tests.support.published import published


def test_figures_tell_when_training_is_as_good() -> None:
    rows = [
        *((0.5, "reconstruct", 1, 0.2), (0.5, "inherit", 1, 0.4), (0.5, "inherit", 16, 0.2), (0.5, "inherit", 4, 0.3)),
        *((0.25, "reconstruct", 1, 0.3), (0.25, "reconstruct", 4, 0.1), (0.25, "inherit", 1, 0.4)),
    ]
    found = figures(pd.DataFrame(rows, columns=["share", "start", "multiple", "error"]))
    values = {figure.case: figure.value for figure in found}
    assert values["0.5 of the FLOPs: error, solved"] == pytest.approx(20)
    assert values["0.5 of the FLOPs: error, trained for 4 times the seconds"] == pytest.approx(30)
    assert values["0.5 of the FLOPs: seconds of training until as good"] == 16
    assert math.isinf(values["0.25 of the FLOPs: seconds of training until as good"])


@pytest.mark.slow
def test_rows_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [*published(tmp_path, "training"), "training.shares=[0.5]", "training.multiples=[1,3]"]
    assert run_bench(["training", *given]) == 0
    (path,) = (Path("results") / "bench" / "training").glob("resnet20-*.csv")
    rows = pd.read_csv(path)
    assert rows[["start", "multiple"]].values.tolist() == [
        ["reconstruct", 1],
        ["inherit", 1],
        ["inherit", 3],
        ["reconstruct", 3],
    ]
    assert rows["error"].between(0, 1).all()
    assert ((rows["steps"] > 0) == (rows.index > 0)).all()
    assert run_bench(["training", *given]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(path), rows)
