"""The reference of columns names every column that tables have."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd
import pytest

from explorer.analysis.multirun_folder import MultirunFolder
from explorer.analysis.populations import Population, analyse
from explorer.analysis.run_folder import RunFolder
from explorer.evaluation.proxies import PROXIES
from tests.support.pages import ROOT, rows
from tests.support.populations import DENSE, made_up

_WORDS = {"UNIT": r".+", "LAYER": r".+", "BLOCK": r".+"}


def named(table: str) -> list[str]:
    """Return patterns of the columns that the reference has of a table."""
    text = (ROOT / "docs" / "columns.md").read_text()
    part = re.split(rf"^#+ {re.escape(table)}$", text, flags=re.MULTILINE)[1]
    found = re.split(r"^#+ ", part, flags=re.MULTILINE)[0]
    columns = [name for cells in rows(found) for name in re.findall(r"`([^`]+)`", cells[0])]
    return [re.sub(r"N$", r"\\d+", re.sub("UNIT|LAYER|BLOCK", ".+", name)) for name in columns]


def missing(columns: Collection[str], *tables: str) -> list[str]:
    """Return the columns that the reference has of none of the tables."""
    known = [pattern for table in tables for pattern in named(table)]
    return [column for column in columns if not any(re.fullmatch(pattern, column) for pattern in known)]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A multirun of one job whose tables have as many columns as can be."""
    folder = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)

        from explorer.cli import main

        with pytest.raises(SystemExit) as caught:
            main(
                [
                    *("run", "-m", "seed=0", "space=mixed", "space.match=layer1.*", "trials=4", "ladder=2"),
                    *("sampler=frontier", "evaluator=finetune", "evaluator.rungs=[0,1]", "evaluator.racing=true"),
                    *("finetuning.steps=2", "training.epochs=1", "evaluator.images=100", "latency.seconds=1"),
                    *("baselines=[uniform]", "baseline_targets.flops=[.9]", "baseline_family=channels"),
                    *("evaluator.calibration_batches=1", "final.points=1", "final.seeds=1", "final.epochs=1"),
                ]
            )
        assert caught.value.code == 0
    (found,) = (folder / "results").glob("sweep-*")
    return found


def test_tables_of_a_run(sweep: Path) -> None:
    (job,) = MultirunFolder(sweep).ended()
    trials, front, baselines, final = job.trials(), job.frontier(), job.baselines(), job.final()
    assert trials is not None
    assert front is not None
    assert baselines is not None
    assert final is not None
    assert not missing(trials.columns, "trials.parquet")
    assert not missing(front.columns, "trials.parquet", "frontier.csv")
    assert not missing(baselines.columns, "trials.parquet", "baselines.csv")
    assert not missing(final.columns, "final.csv")


def test_tables_beside_a_run(sweep: Path) -> None:
    (job,) = MultirunFolder(sweep).ended()
    for path in job.path.glob("*.csv"):
        tables = {"trials.csv": ["trials.parquet"], "frontier.csv": ["trials.parquet", "frontier.csv"]}
        tables["baselines.csv"] = ["trials.parquet", "baselines.csv"]
        assert not missing(pd.read_csv(path).columns, *tables.get(path.name, [path.name])), path.name
    assert not missing(pd.read_csv(sweep / "jobs.csv").columns, "jobs.csv")
    frontiers = pd.read_csv(sweep / "frontiers.csv").columns
    assert not missing(frontiers, "trials.parquet", "frontier.csv", "frontiers.csv")


def test_tables_of_populations() -> None:
    tables = {
        f"p{seed}": made_up(
            64, seed, space=f"p{seed}", regime=0.5, network="n", protocol="q", seed=0, **{"proxy.snip": 1}
        )
        for seed in (0, 1)
    }
    found = analyse([Population.of(table, name, dense=DENSE) for name, table in tables.items()])
    for name, table in found.tables.items():
        assert not missing(table.columns, "correlations.csv" if name == "proxies" else f"{name}.csv"), name
    assert not missing([*PROXIES, "reconstructed_error", "reconstructed_loss"], "proxies.csv")


def test_a_reader_reads_what_the_reference_says_must_be_there() -> None:
    # the columns without which a table counts as damaged
    from explorer.analysis import run_folder

    for name, columns in run_folder._TABLES.items():
        table = "trials.parquet" if name == "trials" else f"{name}.csv"
        assert not missing(columns, *dict.fromkeys(["trials.parquet", table])), RunFolder.__name__
