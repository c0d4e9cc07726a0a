"""Allocations: recipes that spread one level of pruning over all axes so that they cost what is asked."""

from explorer.pruning.allocation.axes import FreeAxis, FreeSpace, allocated_family
from explorer.pruning.allocation.baselines import Baseline, asked_baselines, check_reach
from explorer.pruning.allocation.table import ALLOCATIONS, allocation
from explorer.pruning.allocation.targets import TARGETS, Allocated, allocate, check_target, checked_target

__all__ = [
    "ALLOCATIONS",
    "TARGETS",
    "Allocated",
    "Baseline",
    "FreeAxis",
    "FreeSpace",
    "allocate",
    "allocated_family",
    "allocation",
    "asked_baselines",
    "check_reach",
    "check_target",
    "checked_target",
]
