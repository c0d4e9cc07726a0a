"""Allocations: recipes that cost what is asked, by one level of pruning on all axes or by what choices change."""

from explorer.pruning.allocation.axes import FreeAxis, FreeSpace, allocated_family
from explorer.pruning.allocation.baselines import Baseline, asked_baselines, check_reach
from explorer.pruning.allocation.choices import CHOOSERS, Changes, Offer
from explorer.pruning.allocation.table import ALLOCATIONS, check_allocation
from explorer.pruning.allocation.targets import TARGETS, Allocated, allocate, check_target, checked_target

__all__ = [
    "ALLOCATIONS",
    "CHOOSERS",
    "TARGETS",
    "Allocated",
    "Baseline",
    "Changes",
    "FreeAxis",
    "FreeSpace",
    "Offer",
    "allocate",
    "allocated_family",
    "asked_baselines",
    "check_allocation",
    "check_reach",
    "check_target",
    "checked_target",
]
