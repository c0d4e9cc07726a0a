"""Calibration inputs: several batches as one, as many as memory allows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from explorer.data import Batch, head, size_of
from explorer.pruning.reconstruction.paths import is_view
from explorer.pruning.reconstruction.places import Places, marks_of
from explorer.pruning.reconstruction.targets import Targets

__all__ = ["Calibration"]

log = logging.getLogger("explorer")

# bytes that the largest activation of all inputs may take, and the targets of all layers together
_ACTIVATION, _TARGETS = 1 << 30, 4 << 30


@dataclass(frozen=True, eq=False)
class Calibration:
    """Inputs of one shape, joined.

    Parameters
    ----------
    inputs
        As the model takes them.
    marks
        A number for each, made of its values.
    positions
        Places of each at which layers are compared, at most.
    """

    inputs: Any
    marks: Sequence[int]
    positions: int

    @classmethod
    def of(cls, batches: Sequence[Batch], positions: int) -> Calibration:
        """Return the inputs of those batches that have the shape of most of them."""
        inputs, count = _joined(batches)
        return cls(inputs, marks_of(inputs, count), positions)

    def places(self, seed: int) -> Places:
        """Return the places of the inputs, drawn with a seed."""
        return Places(self.marks, self.positions, seed)

    def fitting(self, targets: Callable[[Calibration], Targets]) -> Calibration:
        """Return as many inputs as memory allows, with more places each where these are fewer.

        Parameters
        ----------
        targets
            Runs the dense network on some inputs.
        """
        count = len(self.marks)
        with _Largest() as largest:
            found = targets(Calibration(head(self.inputs, 1), self.marks[:1], self.positions))
        fit = min(count, max(1, _ACTIVATION // max(1, largest.bytes)))
        rows = max(1, _TARGETS * self.positions // max(1, found.bytes))
        positions = max(1, min(-(-self.positions * count // fit), rows // fit))
        if fit == count and positions == self.positions:
            return self
        log.info("reconstruction: %d of %d calibration inputs fit in memory, at %d places each", fit, count, positions)
        # whichever they are, they do not depend on the order of batches
        chosen = sorted(sorted(range(count), key=lambda number: self.marks[number])[:fit])
        at = torch.tensor(chosen)

        def taken(leaf: Any) -> Any:
            whole = isinstance(leaf, Tensor) and leaf.dim() and leaf.size(0) == count
            return leaf.index_select(0, at.to(leaf.device)) if whole else leaf

        return Calibration(tree_map(taken, self.inputs), [self.marks[number] for number in chosen], positions)


class _Largest(TorchDispatchMode):
    """Notes the bytes of the largest tensor that an operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **kwargs or {})
        # a view of a weight takes no memory
        if not is_view(func):
            self.bytes = max(self.bytes, *(leaf.nbytes for leaf in tree_leaves(out) if isinstance(leaf, Tensor)), 0)
        return out


def _joined(batches: Sequence[Batch]) -> tuple[Any, int]:
    """Return the inputs of several batches as one, and how many there are."""
    flat = [tree_flatten(dict(inputs) if hasattr(inputs, "keys") else inputs) for inputs, _ in batches]
    sizes = [size_of(inputs) for inputs, _ in batches]
    alike: dict[str, list[int]] = {}
    for number, (leaves, structure) in enumerate(flat):
        shapes = [tuple(leaf.shape[1:]) if isinstance(leaf, Tensor) and leaf.dim() else leaf for leaf in leaves]
        alike.setdefault(repr((structure, shapes)), []).append(number)
    chosen = max(alike.values(), key=lambda numbers: sum(sizes[number] for number in numbers))
    if len(chosen) < len(batches):
        others = len(batches) - len(chosen)
        log.warning(
            "reconstruction: %d of %d calibration batches have another shape and are not used", others, len(batches)
        )
    columns = zip(*(flat[number][0] for number in chosen), strict=True)
    leaves = [
        torch.cat(column) if isinstance(column[0], Tensor) and column[0].dim() else column[0] for column in columns
    ]
    return tree_unflatten(leaves, flat[chosen[0]][1]), sum(sizes[number] for number in chosen)
