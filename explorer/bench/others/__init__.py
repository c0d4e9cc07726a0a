"""Contestants side by side at equal FLOPs: this project, other tools, and methods of a user's own."""

from __future__ import annotations

from typing import Any

import pandas as pd

from explorer.analysis.plots import save
from explorer.bench.measured import Measured
from explorer.bench.others.contest import COLUMNS, DENSE, Contest
from explorer.bench.others.figure import others_figure
from explorer.bench.others.methods import METHODS, Entry
from explorer.bench.published import published
from explorer.runs.config import RESULTS
from explorer.utils.console import console, progress
from explorer.utils.files import atomic

__all__ = ["COLUMNS", "METHODS", "Entry", "markdown", "others"]


def others(config: dict[str, Any]) -> list[Measured]:
    """Return the median test error of every contestant at every share of the FLOPs, just pruned and then trained.

    All prune one dense network. FLOPs are counted by our cost model, channels that are sliced away and weights that
    are zero are not among them. Batch norms are re-estimated on one set of training images, and all are trained for as
    many steps, on the same images in the same order; the learning rate is that which the project has for inherited or
    for reconstructed weights. ``results/bench/others/MODEL-METHOD-SPACE-SHARE-KEY-SEED.csv`` has a row for each, which
    is not made again: ``asked`` and ``flops`` are shares of dense, ``epochs`` those trained, ``error`` is of validation
    and ``test_error`` of test, which chooses nothing; ``evaluations`` is how many candidates were measured for all
    shares together. All of them, their table and their figure are written beside.

    Raises
    ------
    PruningError
        If data or weights are not given or not there, a method is unknown, or gives more FLOPs than asked for.
    """
    options, folder = config["others"], RESULTS / "bench" / "others"
    # before anything is said of tools
    published("others", options)
    entries = [entry for entry in map(Entry.of, dict.fromkeys(options["methods"])) if _there(entry)]
    jobs = [
        (seed, space, reconstruct, [entry for entry in entries if _meets(entry, space, reconstruct, options["spaces"])])
        for seed in range(options["seeds"])
        for space in options["spaces"]
        for reconstruct in (False, True)
    ]
    tables: list[pd.DataFrame] = []
    with progress("others", sum(len(some) for *_, some in jobs)) as show:
        done = 0
        for seed, space, reconstruct, some in jobs:
            control = not reconstruct and space == options["spaces"][0]
            if not some and not control:
                continue
            contest = Contest(options, space=space, seed=seed, reconstruct=reconstruct, folder=folder)
            if control:
                tables.append(contest.control())
            for entry in some:
                tables.append(contest.meet(entry, options["ratios"]))
                done += 1
                show(done, f"{entry.name} {space} {seed}")
    table = pd.concat(tables, ignore_index=True)
    name = f"others-{options['model']}"
    save(others_figure(table), folder / name)
    with atomic(folder / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False)
    with atomic(folder / f"{name}.md") as temporary:
        temporary.write_text(markdown(table))
    medians = table.groupby(["method", "space", "asked", "epochs"], sort=False)["test_error"].median()
    return [
        Measured(f"{method} in {space}, {asked:g} of the FLOPs, {epochs} epochs: test error", "", 100 * error, "%")
        for (method, space, asked, epochs), error in medians.items()
    ]


def markdown(table: pd.DataFrame) -> str:
    """Return the tables of test errors in per cent, one for each number of epochs, and FLOPs in per cent of dense.

    Medians of the seeds, with the range of several.
    """
    shares = sorted(table.loc[table["method"] != DENSE, "asked"].unique(), reverse=True)
    lines: list[str] = []
    for epochs, mine in table.groupby("epochs"):
        title = "Just pruned" if epochs == 0 else f"After {epochs} epochs of training"
        lines += [
            f"{title}:",
            "",
            "| method | space | evaluations | " + " | ".join(f"{100 * s:.0f} %" for s in shares) + " |",
        ]
        lines.append("|---|---|---|" + "---|" * len(shares))
        for (method, space), rows in mine.groupby(["method", "space"], sort=False):
            if method == DENSE:
                cells = [_cell(rows)] * len(shares)
            else:
                cells = [_cell(rows[rows["asked"] == share]) for share in shares]
            where = "" if method == DENSE else space
            count = f"{rows['evaluations'].median():.0f}"
            lines.append(f"| {method} | {where} | {count} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(rows: pd.DataFrame) -> str:
    if rows.empty:
        return ""
    errors = 100 * rows["test_error"]
    low, middle, high = (f"{value:.1f}" for value in (errors.min(), errors.median(), errors.max()))
    spread = "" if len(rows) == 1 else f" ({low} to {high})"
    return f"{middle}{spread} at {100 * rows['flops'].median():.1f}"


def _there(entry: Entry) -> bool:
    """Return whether what a contestant needs is installed; say so where it is not."""
    if entry.method.missing:
        line = f"{entry.name} is left out, {entry.method.package} is not installed: {entry.method.install}"
        console.print(line, markup=False, soft_wrap=True)
    return not entry.method.missing


def _meets(entry: Entry, space: str, reconstruct: bool, spaces: list[str]) -> bool:
    """Return whether a contestant takes part: makers of recipes in every space, those of modules in the first."""
    return entry.reconstruct is reconstruct and (entry.method.recipes or space == spaces[0])
