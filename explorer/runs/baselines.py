"""Baselines of a run: allocations evaluated once beside the search, which they never change."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.table import Table

from explorer.pruning.allocation import (
    ALLOCATIONS,
    TARGETS,
    Allocated,
    allocated_family,
    allocation,
    check_target,
    checked_target,
)
from explorer.search.jobs import Job, reason_of
from explorer.search.metrics import Metric
from explorer.utils.console import progress
from explorer.utils.files import atomic
from spaces import PruningError, PruningSpace, costs_of

if TYPE_CHECKING:
    from explorer.problem import Problem
    from explorer.runs.config import Config

# torch and what needs it are imported by what measures: a finished run is shown without them

__all__ = [
    "baselines_view",
    "check_baselines",
    "check_reach",
    "evaluate_baselines",
    "evaluated",
    "missing_baselines",
    "read_baselines",
]

log = logging.getLogger("explorer")


@dataclass(frozen=True)
class _Baseline:
    """One allocation at one target; `family` None is the space's only one."""

    allocation: str
    family: str | None
    metric: str
    asked: Any

    @property
    def name(self) -> str:
        """What its row and its recipe's file are called."""
        family = [] if self.family is None else [re.sub(r"\W+", "-", self.family).strip("-")]
        return "-".join(["baseline", self.allocation, *family, self.metric, str(self.asked)])


def check_baselines(config: Config) -> None:
    """Check the keys that ask for baselines.

    Raises
    ------
    PruningError
        If an allocation is unknown, or a target is no amount.
    """
    names, targets, family = config["baselines"], config["baseline_targets"], config["baseline_family"]
    if not isinstance(names, list):
        raise PruningError(f"baselines: {names!r}, allowed is a list of {', '.join(ALLOCATIONS)}")
    for name in names:
        allocation(name, "baselines")
    for metric in TARGETS:
        if not isinstance(targets[metric], list):
            raise PruningError(f"baseline_targets.{metric}: {targets[metric]!r}, allowed is a list such as [0.5]")
        for asked in targets[metric]:
            checked_target({metric: asked}, "baseline_targets")
    if names and not any(targets.values()):
        raise PruningError("baseline_targets: every list is empty, needed is a target such as flops: [0.5]")
    if family is not None and not isinstance(family, str):
        raise PruningError(f"baseline_family: {family!r}, allowed is the name of a granularity or channels")


def check_reach(config: Config, space: PruningSpace) -> None:
    """Check that the baselines asked for can be made of a space, so that it shows before anything is trained.

    Raises
    ------
    PruningError
        If an exact target is out of reach, or the family is unknown or needed.
    """
    targets = dict.fromkeys((baseline.metric, baseline.asked) for baseline in _asked(config))
    family = allocated_family(space, config["baseline_family"], "baseline_family") if targets else ""
    for metric, asked in targets:
        check_target(space, {metric: asked}, family, "baseline_targets")


def read_baselines(folder: Path) -> pd.DataFrame | None:
    """Return the table of a run's baselines; None where there are none."""
    path = folder / "baselines.csv"
    return pd.read_csv(path, dtype={"asked": str}) if path.exists() else None


def missing_baselines(folder: Path, config: Config) -> list[_Baseline]:
    """Return the baselines a configuration asks for that the run's table does not have."""
    table = read_baselines(folder)
    there = set() if table is None else set(table["baseline"])
    return [baseline for baseline in _asked(config) if baseline.name not in there]


def evaluate_baselines(folder: Path, config: Config, problem: Problem) -> None:
    """Evaluate what `missing_baselines` returns; write ``baselines.csv`` after each, and recipes.

    One that fails is a row with its reason, and is not tried again. The run's budget does not hold for them.
    """
    (folder / "recipes").mkdir(exist_ok=True)
    missing, table = missing_baselines(folder, config), read_baselines(folder)
    rows = [] if table is None else table.to_dict("records")
    with progress("baselines", len(missing)) as show:
        for done, baseline in enumerate(missing, start=1):
            rows.append({"baseline": baseline.name, **_row(folder, baseline, problem)})
            with atomic(folder / "baselines.csv") as temporary:
                pd.DataFrame(rows).to_csv(temporary, index=False)
            show(done, baseline.name)


def evaluated(problem: Problem, found: Allocated) -> dict[str, Any]:
    """Return the row of an allocated recipe: what was asked and achieved, the measured metrics and every cost."""
    network, dense = problem.space.network, problem.space.dense
    begin = time.perf_counter()
    # at the last rung, as the best candidates
    last = len(problem.evaluator.rungs) - 1
    metrics = problem.evaluator(Job(-1, found.recipe, last, limited=False))
    row: dict[str, Any] = {
        "allocation": found.allocation,
        "family": found.family,
        "target": found.metric,
        "asked": found.asked,
        "achieved": found.achieved,
        "level": found.level,
        "state": "COMPLETE",
        **metrics,
    }
    if found.quartiles is not None:
        row |= {"achieved_q1": found.quartiles[0], "achieved_q3": found.quartiles[1]}
    costs = costs_of(network, found.recipe)
    for name, cost in costs.items():
        row |= {name: cost, f"{name}_ratio": cost / dense[name]}
    mcb = costs["flops"] / costs["params"]
    row |= {"mcb": mcb, "rho": mcb / (dense["flops"] / dense["params"]), "seconds": time.perf_counter() - begin}
    return row | {"granularity": found.recipe.granularity(network)}


def baselines_view(table: pd.DataFrame, error: Metric) -> Table:
    """Return the baselines as a table to print; a cost is shown as it was asked for."""
    view = Table(title="baselines", title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    for header in ("allocation", "of", "target"):
        view.add_column(header)
    for header in ("asked", "achieved", error.label.removeprefix("validation "), "± s.e.", "FLOPs M", "params k"):
        view.add_column(header, justify="right")
    for _, row in table.iterrows():
        cells = [row["allocation"], row["family"], row["target"], row["asked"]]
        if row["state"] != "COMPLETE":
            view.add_row(*map(str, cells), "failed", str(row["reason"]))
            continue
        errors = [error.text(row[key]) for key in ("error", "error_se")]
        costs = [f"{row['flops'] / 1e6:.3f}", f"{row['params'] / 1e3:.1f}"]
        view.add_row(*map(str, cells), f"{row['achieved']:.5g}", *errors, *costs)
    return view


def _asked(config: Mapping[str, Any]) -> Sequence[_Baseline]:
    family, targets = config["baseline_family"], config["baseline_targets"]
    asked = [(metric, value) for metric in TARGETS for value in targets[metric]]
    return list(dict.fromkeys(_Baseline(name, family, *target) for name in config["baselines"] for target in asked))


def _row(folder: Path, baseline: _Baseline, problem: Problem) -> dict[str, Any]:
    """Return a baseline's row after writing its recipe; that of one that failed tells why."""
    target = {baseline.metric: baseline.asked}
    try:
        found = problem.allocate(baseline.allocation, target, family=baseline.family)
        row = evaluated(problem, found)
    except Exception as error:
        reason = reason_of(error)
        log.warning("%s failed: %s", baseline.name, reason)
        plain = {"allocation": baseline.allocation, "family": baseline.family, "target": baseline.metric}
        return {**plain, "asked": baseline.asked, "state": "FAIL", "reason": reason}
    log.info("%s: %s, error %.4f", baseline.name, found, row["error"])
    with atomic(folder / "recipes" / f"{baseline.name}.yaml") as temporary:
        temporary.write_text(f"# {found} of {baseline.asked} asked, error {row['error']:.4f}\n{found.recipe.to_yaml()}")
    return row
