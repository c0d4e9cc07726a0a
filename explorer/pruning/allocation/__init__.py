"""Allocations: recipes that spread one level of pruning over all axes so that they cost what is asked."""

from explorer.pruning.allocation.axes import FreeAxis, FreeSpace, allocated_family
from explorer.pruning.allocation.table import ALLOCATIONS, allocation
from explorer.pruning.allocation.targets import TARGETS, Allocated, allocate, check_target, checked_target

__all__ = [
    "ALLOCATIONS",
    "TARGETS",
    "Allocated",
    "FreeAxis",
    "FreeSpace",
    "allocate",
    "allocated_family",
    "allocation",
    "check_target",
    "checked_target",
]
