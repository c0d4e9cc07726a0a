"""Labels of classes among the targets of batches."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from explorer.data.structure import Batch
from explorer.data.task import Task, classification
from spaces.errors import PruningError

__all__ = ["labelled"]


def labelled(batches: Sequence[Batch]) -> Task:
    """Return the classification into as many classes as the largest label of validation batches says.

    Raises
    ------
    PruningError
        If their targets are no labels of classes, counted from 0.
    """
    labels = [targets for _, targets in batches]
    if not all(isinstance(y, Tensor) and y.dim() == 1 and not y.is_floating_point() for y in labels):
        raise PruningError("task: not given, and the targets are no labels of classes; give an explorer.Task")
    if (least := min(int(y.min()) for y in labels)) < 0:
        raise PruningError(
            f"validation: a label is {least}, allowed are classes counted from 0; else give an explorer.Task"
        )
    return classification(max(int(y.max()) for y in labels) + 1)
