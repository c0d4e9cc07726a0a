"""The tables that are kept: each parses, and a page beside it has the command that makes it."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from explorer.bench.leaderboard import BOARDS
from explorer.bench.others import COLUMNS
from tests.support.pages import ROOT

FOLDER = ROOT / "results" / "reference"
TABLES = sorted(FOLDER.rglob("*.csv"))


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_table_parses(path) -> None:
    table = pd.read_csv(path)
    assert len(table)
    assert not [name for name in table.columns if name.startswith("Unnamed")]
    assert not table.columns.duplicated().any()
    assert not table.isna().all(axis=1).any()
    for name in [name for name in table.columns if re.search(r"error$|^flops_ratio$|^params_ratio$", name)]:
        assert pd.api.types.is_numeric_dtype(table[name]), name
        assert table[name].dropna().ge(0).all(), name


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_page_beside_a_table_has_its_command(path) -> None:
    pages = [page for page in path.parent.glob("*.md") if page.stem == path.stem or path.name in page.read_text()]
    assert pages, f"no page names {path.name}"
    command = re.compile(r"(^|`|=\d+ )(explore|python) \w", re.MULTILINE)
    assert any(command.search(page.read_text()) for page in pages)


@pytest.mark.parametrize(
    "board", [board for board in BOARDS if (FOLDER / board.table).exists()], ids=lambda board: board.table
)
def test_a_table_of_the_leaderboard_has_results(board) -> None:
    results = board.results(pd.read_csv(FOLDER / board.table))
    assert list(results) == ["case", "contestant", "value", "sampled"]
    assert len(results.dropna(subset="value"))


def test_the_table_of_contestants_has_its_columns() -> None:
    for path in FOLDER.glob("others-*.csv"):
        assert list(pd.read_csv(path)) == COLUMNS, path.name
