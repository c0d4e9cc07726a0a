"""Baselines of a run: allocations evaluated once beside the search, which they never change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from explorer.analysis.run_folder import RunFolder
from explorer.pruning.allocation import Baseline
from explorer.utils.console import progress

if TYPE_CHECKING:
    from explorer.problem import Problem

# torch and what needs it are imported by what measures: a finished run is shown without them

__all__ = ["evaluate_baselines", "missing_baselines"]


def missing_baselines(folder: RunFolder, asked: Sequence[Baseline]) -> list[Baseline]:
    """Return the baselines that the run's table does not have."""
    table = folder.baselines()
    there = set() if table is None else set(table["baseline"])
    return [baseline for baseline in asked if baseline.name not in there]


def evaluate_baselines(folder: RunFolder, asked: Sequence[Baseline], problem: Problem) -> None:
    """Evaluate the missing of the baselines that are asked for; write their table after each, and their recipes.

    One that fails is a row with its reason, and is not tried again. The run's budget does not hold for them.
    """
    missing, table = missing_baselines(folder, asked), folder.baselines()
    rows = [] if table is None else table.to_dict("records")
    with progress("baselines", len(missing)) as show:
        for done, baseline in enumerate(missing, start=1):
            row, found = problem.baseline(baseline)
            if found is not None:
                remark = f"{found} of {baseline.asked} asked, error {row['error']:.4f}"
                folder.write_recipe(baseline.name, found.recipe, remark)
            rows.append(row)
            folder.write_baselines(pd.DataFrame(rows))
            show(done, baseline.name)
