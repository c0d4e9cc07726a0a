"""Baselines of a run: allocations evaluated once beside the search, which they never change."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from explorer.analysis.run_folder import RunFolder
from explorer.pruning.allocation import (
    ALLOCATIONS,
    TARGETS,
    allocate,
    allocated_family,
    allocation,
    check_target,
    checked_target,
)
from explorer.search.jobs import reason_of
from explorer.utils.console import progress
from spaces import PruningError, PruningSpace

if TYPE_CHECKING:
    from explorer.problem import Problem

# torch and what needs it are imported by what measures: a finished run is shown without them

__all__ = ["Baseline", "asked_baselines", "check_baselines", "check_reach", "evaluate_baselines", "missing_baselines"]

log = logging.getLogger("explorer")


@dataclass(frozen=True)
class Baseline:
    """One allocation at one target.

    Parameters
    ----------
    allocation
        One of `ALLOCATIONS`.
    family
        What is allocated, None for the space's only family.
    metric, asked
        One of `TARGETS`, and the value as it was given.
    """

    allocation: str
    family: str | None
    metric: str
    asked: Any

    @property
    def name(self) -> str:
        """What its row and its recipe's file are called."""
        family = [] if self.family is None else [re.sub(r"\W+", "-", self.family).strip("-")]
        return "-".join(["baseline", self.allocation, *family, self.metric, str(self.asked)])


def asked_baselines(names: Sequence[str], targets: Mapping[str, Sequence[Any]], family: str | None) -> list[Baseline]:
    """Return the baselines of several allocations at several targets, each once."""
    asked = [(metric, value) for metric in TARGETS for value in targets.get(metric, ())]
    return list(dict.fromkeys(Baseline(name, family, *target) for name in names for target in asked))


def check_baselines(names: Any, targets: Mapping[str, Any], family: Any) -> None:
    """Check the values of the keys that ask for baselines.

    Raises
    ------
    PruningError
        If an allocation is unknown, or a target is no amount.
    """
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


def check_reach(asked: Sequence[Baseline], space: PruningSpace, family: str | None) -> None:
    """Check that baselines can be made of a space, so that it shows before anything is trained.

    Raises
    ------
    PruningError
        If an exact target is out of reach, or the family is unknown or needed.
    """
    targets = dict.fromkeys((baseline.metric, baseline.asked) for baseline in asked)
    known = allocated_family(space, family, "baseline_family") if targets else ""
    for metric, value in targets:
        check_target(space, {metric: value}, known, "baseline_targets")


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
            rows.append({"baseline": baseline.name, **_row(folder, baseline, problem)})
            folder.write_baselines(pd.DataFrame(rows))
            show(done, baseline.name)


def _row(folder: RunFolder, baseline: Baseline, problem: Problem) -> dict[str, Any]:
    """Return a baseline's row after writing its recipe; that of one that failed tells why."""
    from explorer.evaluation.allocated import evaluated

    target = {baseline.metric: baseline.asked}
    try:
        found = allocate(problem, baseline.allocation, target, family=baseline.family)
        row = evaluated(problem.evaluate, problem.space, found)
    except Exception as error:
        reason = reason_of(error)
        log.warning("%s failed: %s", baseline.name, reason)
        plain = {"allocation": baseline.allocation, "family": baseline.family, "target": baseline.metric}
        return {**plain, "asked": baseline.asked, "state": "FAIL", "reason": reason}
    log.info("%s: %s, error %.4f", baseline.name, found, row["error"])
    folder.write_recipe(baseline.name, found.recipe, f"{found} of {baseline.asked} asked, error {row['error']:.4f}")
    return row
