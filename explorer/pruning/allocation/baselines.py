"""Baselines: the allocations and targets that are measured beside a search."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from explorer.pruning.allocation.choices import CHOOSERS
from explorer.pruning.allocation.table import ALLOCATIONS, check_allocation
from explorer.pruning.allocation.targets import TARGETS, check_target, checked_target
from spaces import PATTERNS, PruningError, PruningSpace, unknown

__all__ = ["Baseline", "asked_baselines", "check_reach"]


@dataclass(frozen=True)
class Baseline:
    """One allocation at one target; `family` None is the space's only one, and for ``knapsack`` all."""

    allocation: str
    family: str | None
    metric: str
    asked: Any

    @property
    def name(self) -> str:
        """What its row and its recipe's file are called."""
        family = [] if self.family is None else [re.sub(r"\W+", "-", self.family).strip("-")]
        return "-".join(["baseline", self.allocation, *family, self.metric, str(self.asked)])


def asked_baselines(names: Any, targets: Mapping[str, Any], family: Any) -> tuple[Baseline, ...]:
    """Return the baselines that three keys of the configuration ask for, each once.

    Parameters
    ----------
    names, targets, family
        ``baselines``, ``baseline_targets`` and ``baseline_family`` of conf/run.yaml.

    Raises
    ------
    PruningError
        If an allocation is unknown, or a target is no amount.
    """
    if not isinstance(names, list | tuple):
        raise PruningError(f"baselines: {names!r}, allowed is a list of {', '.join([*ALLOCATIONS, *CHOOSERS])}")
    for name in names:
        check_allocation(name, "baselines")
    for metric in TARGETS:
        if not isinstance(targets[metric], list | tuple):
            raise PruningError(f"baseline_targets.{metric}: {targets[metric]!r}, allowed is a list such as [0.5]")
        for asked in targets[metric]:
            checked_target({metric: asked}, "baseline_targets")
    if names and not any(targets.values()):
        raise PruningError("baseline_targets: every list is empty, needed is a target such as flops: [0.5]")
    if family is not None and not isinstance(family, str):
        raise PruningError(f"baseline_family: {family!r}, allowed is the name of a granularity or channels")
    allowed = ("channels", *PATTERNS)
    if family is not None and family.partition("(")[0] not in allowed:
        raise unknown("baseline_family", family, allowed)
    asked_of = [(metric, value) for metric in TARGETS for value in targets[metric]]
    return tuple(dict.fromkeys(Baseline(name, family, *target) for name in names for target in asked_of))


def check_reach(space: PruningSpace, asked: Sequence[Baseline]) -> None:
    """Check that the baselines asked for can be made of a space, so that it shows before anything is trained.

    Raises
    ------
    PruningError
        If an exact target is out of reach, or the family is unknown or needed.
    """
    for one in asked:
        check_target(space, one.allocation, {one.metric: one.asked}, one.family, "baseline_targets")
