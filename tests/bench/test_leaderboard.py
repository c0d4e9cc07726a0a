"""The leaderboard: places, intervals and agreement, and the page that is kept is made of the tables that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from explorer.bench import run_bench
from explorer.bench.leaderboard import BOARDS, agreement, page, placed
from spaces import PruningError
from tests.support.pages import ROOT

TABLES = ROOT / "results" / "reference"
RESULTS = pd.DataFrame(
    {
        "case": ["x"] * 5 + ["y"] * 4,
        "contestant": ["a", "a", "a", "b", "c", "a", "b", "c", "d"],
        "value": [3.0, 1.0, 2.0, 4.0, np.nan, 3.0, 2.0, 1.0, 0.5],
        "sampled": [0.5] * 9,
    }
)


def test_places_are_by_the_median_with_the_range_of_seeds_or_what_images_leave() -> None:
    table = placed(RESULTS, greatest=False)
    assert table[table["case"] == "x"].to_numpy().tolist() == [
        ["x", "a", 2.0, 1.0, 3.0],
        ["x", "b", 4.0, pytest.approx(4 - 0.98), pytest.approx(4 + 0.98)],
    ]
    assert table.loc[table["case"] == "y", "contestant"].tolist() == ["d", "c", "b", "a"]
    assert placed(RESULTS, greatest=True)["contestant"].tolist() == ["b", "a", "a", "b", "c", "d"]


def test_rankings_agree_as_far_as_kendalls_tau_of_what_they_share() -> None:
    three = pd.DataFrame(
        [(case, name, value) for case in "xyz" for name, value in zip("abc", (1.0, 2.0, 3.0), strict=True)],
        columns=["case", "contestant", "value"],
    )
    three.loc[three["case"] == "z", "value"] *= -1
    three = pd.concat([three, pd.DataFrame({"case": ["w"], "contestant": ["a"], "value": [1.0]})])
    assert agreement(three).to_numpy().tolist() == [["x", "y", 1.0], ["x", "z", -1.0], ["y", "z", -1.0]]
    three.loc[three["case"] == "z", "value"] = 1.0
    # where all are even there is no ranking to agree with
    assert agreement(three).to_numpy().tolist() == [["x", "y", 1.0]]


def test_the_page_is_what_the_tables_say() -> None:
    there = [board.table for board in BOARDS if (TABLES / board.table).exists()]
    assert (ROOT / "docs" / "leaderboard.md").read_text() == page(
        {name: pd.read_csv(TABLES / name) for name in there}
    ), "explore bench leaderboard makes it anew"


def test_the_command_writes_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_bench(["leaderboard", f"leaderboard.tables={TABLES}"]) == 0
    assert Path("docs/leaderboard.md").read_text() == (ROOT / "docs" / "leaderboard.md").read_text()
    taus = pd.read_csv("results/bench/leaderboard.csv")["figure"]
    assert taus.between(-1, 1).all()


def test_a_table_without_its_columns_is_one_line() -> None:
    with pytest.raises(PruningError, match=r"leaderboard.tables: criteria-resnet20.csv has no column 'criterion'"):
        page({"criteria-resnet20.csv": pd.DataFrame({"asked": [0.5]})})
