"""Leaderboard: who wins where in the tables that were kept, and how often rankings agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import kendalltau

from explorer.bench.frontiers import within
from explorer.bench.measured import Measured
from explorer.bench.others.contest import DENSE
from explorer.utils.files import atomic
from spaces import PruningError

__all__ = ["BOARDS", "agreement", "leaderboard", "page", "placed"]

# rankings of fewer contestants say nothing
_FEWEST = 3
# a normal distribution's 95 %
_NORMAL = 1.96
# of the FLOPs, where a table has more
_SHARES = [0.75, 0.5, 0.35, 0.25]
# where the page's links lead
_KEPT = "../results/reference"

_INTRODUCTION = (
    "Who wins where, made of the tables in `results/reference` by `explore bench leaderboard`. A value is the median",
    "of the seeds, in brackets are the least and the greatest of them; of a single seed the 95 % interval that its",
    "number of test images leaves, where the table tells it. *Apart* says whether the intervals of the first and the",
    "second do not meet. Kendall's tau says how far two rankings agree: 1 for the same order, 0 for none, -1 for the",
    "opposite.",
)


@dataclass(frozen=True)
class Board:
    """A table that ranks contestants.

    Parameters
    ----------
    title, table
        What it is of, and the file's name.
    words
        What is measured, in a sentence.
    results
        From the file to one row a contestant, case and seed: ``case``, ``contestant``, ``value``, and ``sampled``, the
        standard error that the number of test images leaves, or NaN.
    greatest
        Whether the greatest value wins.
    """

    title: str
    table: str
    words: str
    results: Callable[[pd.DataFrame], pd.DataFrame]
    greatest: bool = False

    @property
    def text(self) -> Callable[[float], str]:
        """How a value is written."""
        return "{:.3f}".format if self.greatest else "{:.1f}".format


def _others(table: pd.DataFrame) -> pd.DataFrame:
    table = table[table["method"] != DENSE]
    stage = table["epochs"].map(lambda epochs: "just pruned" if epochs == 0 else f"after {epochs} epochs")
    share, images = table["test_error"], table["test_images"]
    return pd.DataFrame(
        {
            "case": _shares(table["asked"]) + ", " + stage,
            "contestant": table["method"] + " (" + table["space"] + ")",
            "value": 100 * share,
            "sampled": 100 * (share * (1 - share) / images) ** 0.5,
        }
    )


def _frontiers(table: pd.DataFrame) -> pd.DataFrame:
    best = within(table, _SHARES)
    return _plain("within " + _shares(best["ratio"]), best["evaluator"], 100 * best["test_error"])


def _criteria(table: pd.DataFrame) -> pd.DataFrame:
    contestants = table["criterion"] + ", " + table["allocation"]
    return _plain(_shares(table["asked"]), contestants, 100 * table["test_error"])


def _samplers(table: pd.DataFrame) -> pd.DataFrame:
    last = table.groupby(["space", "sampler", "seed"], sort=False).last().reset_index()
    return _plain(last["space"], last["sampler"], last["hypervolume"])


def _shares(values: pd.Series) -> pd.Series:
    return (100 * values).map("{:.0f} % of the FLOPs".format)


def _plain(cases: pd.Series, contestants: pd.Series, values: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({"case": cases, "contestant": contestants, "value": values, "sampled": float("nan")})


BOARDS = (
    Board(
        "Methods at equal FLOPs",
        "others-resnet20.csv",
        "Test error (%) of ResNet-20 on the JPEG copy of CIFAR-10, of this project and of other tools; the zeros of\n"
        "`torch_masks` are not counted, but dense kernels compute them.",
        _others,
    ),
    Board(
        "Evaluators",
        "resnet20-cifar10-jpeg.csv",
        "Test error (%) of the best that a search of the same network finds within a share of the FLOPs.",
        _frontiers,
    ),
    Board(
        "Criteria",
        "criteria-resnet20.csv",
        "Test error (%) of the same network by criterion and allocation, weights inherited.",
        _criteria,
    ),
    Board("Samplers", "samplers.csv", "Hypervolume at the end of a study, by space.", _samplers, greatest=True),
)
"""The tables of the page."""


def leaderboard(config: dict[str, Any]) -> list[Measured]:
    """Write the page of the tables that were kept; return how far their rankings agree.

    Raises
    ------
    PruningError
        If none of the tables is there.
    """
    options = config["leaderboard"]
    folder = Path(options["tables"])
    tables = {board.table: pd.read_csv(folder / board.table) for board in BOARDS if (folder / board.table).exists()}
    if not tables:
        names = ", ".join(board.table for board in BOARDS)
        raise PruningError(f"leaderboard.tables: {options['tables']!r} has none of {names}")
    path = Path(options["page"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(page(tables))
    return [
        Measured(f"{board.title}: Kendall's tau, {first}", second, tau, "")
        for board, places in _boards(tables)
        for first, second, tau in agreement(places).itertuples(index=False)
    ]


def placed(results: pd.DataFrame, *, greatest: bool) -> pd.DataFrame:
    """Return one row a case and contestant, the winner of each case first.

    Parameters
    ----------
    results
        As `Board` says.
    greatest
        Whether the greatest value wins.

    Returns
    -------
    pandas.DataFrame
        ``case``, ``contestant``, ``value``, the median of the seeds, ``low`` and ``high``: the least and the greatest
        of them; of one seed the 95 % that its number of test images leaves, NaN where that is not known.
    """
    rows = []
    for (case, contestant), mine in results.dropna(subset="value").groupby(["case", "contestant"], sort=False):
        middle, around = float(mine["value"].median()), _NORMAL * float(mine["sampled"].iloc[0])
        ends = (mine["value"].min(), mine["value"].max()) if len(mine) > 1 else (middle - around, middle + around)
        rows.append((case, contestant, middle, *map(float, ends)))
    table = pd.DataFrame(rows, columns=["case", "contestant", "value", "low", "high"])
    order = table["case"].map({case: place for place, case in enumerate(dict.fromkeys(results["case"]))})
    sign = -1 if greatest else 1
    return table.assign(order=order, key=sign * table["value"]).sort_values(["order", "key"], kind="stable")[
        ["case", "contestant", "value", "low", "high"]
    ]


def agreement(places: pd.DataFrame) -> pd.DataFrame:
    """Return Kendall's tau between the rankings of every two cases that share three contestants: ``first``, ``second``.

    ``tau`` is that of the contestants they share: 1 for the same order, -1 for the opposite. Two cases have none where
    all of these are even in one of them.
    """
    rankings = {case: mine.set_index("contestant")["value"] for case, mine in places.groupby("case", sort=False)}
    rows = []
    for first, second in combinations(rankings, 2):
        both = pd.concat([rankings[first], rankings[second]], axis=1, join="inner")
        if len(both) >= _FEWEST:
            rows.append((first, second, float(kendalltau(both.iloc[:, 0], both.iloc[:, 1]).statistic)))
    return pd.DataFrame(rows, columns=["first", "second", "tau"]).dropna(subset="tau")


def page(tables: Mapping[str, pd.DataFrame]) -> str:
    """Return the page in Markdown; `tables` are those of `BOARDS` that are there, by the file's name."""
    lines = ["# Leaderboard", "", *_INTRODUCTION]
    for board, places in _boards(tables):
        stem = board.table.removesuffix(".csv")
        where = [f"The [table]({_KEPT}/{board.table}),", f"[how it was made]({_KEPT}/{stem}.md)."]
        lines += ["", f"## {board.title}", "", board.words, *where, ""]
        lines += ["| case | contestants | first | second | apart |", "|---|---|---|---|---|"]
        for case, mine in places.groupby("case", sort=False):
            first, *rest = mine.itertuples(index=False)
            cells = [case, str(len(mine)), _shown(board, first)]
            cells += [_shown(board, rest[0]), _apart(first, rest[0])] if rest else ["", ""]
            lines.append(f"| {' | '.join(cells)} |")
        taus = agreement(places)
        if len(taus):
            least, most, middle = taus["tau"].min(), taus["tau"].max(), taus["tau"].median()
            furthest = taus.loc[taus["tau"].idxmin()]
            lines += [
                "",
                f"Kendall's tau between two cases: {middle:.2f} in the median of {len(taus)} pairs, {least:.2f} to",
                f"{most:.2f}; the least is that between *{furthest['first']}* and *{furthest['second']}*.",
            ]
    return "\n".join(lines) + "\n"


def _boards(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[Board, pd.DataFrame]]:
    for board in BOARDS:
        if board.table in tables:
            try:
                results = board.results(tables[board.table])
            except KeyError as error:
                raise PruningError(f"leaderboard.tables: {board.table} has no column {error}") from None
            yield board, placed(results, greatest=board.greatest)


def _shown(board: Board, row: Any) -> str:
    value = f"`{row.contestant}` {board.text(row.value)}"
    return value if pd.isna(row.low) else f"{value} ({board.text(row.low)} to {board.text(row.high)})"


def _apart(first: Any, second: Any) -> str:
    if pd.isna(first.low) or pd.isna(second.low):
        return "not known"
    return "yes" if first.high < second.low or second.high < first.low else "no"
