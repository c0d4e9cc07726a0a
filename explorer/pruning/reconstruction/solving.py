"""Least squares: the change of a layer's matrices that makes up for the errors of its outputs, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Rows", "Solution", "solve"]

# entries of a block of rows, and inputs of a layer that are solved for together
_BLOCK, _WIDE = 1 << 24, 4096
# steps of the alternating directions, and the weight of a step over the mean of the diagonal
_STEPS, _WEIGHT = 60, 0.2


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows that a layer multiplies, made block by block and kept where one block holds all of them.

    Parameters
    ----------
    count
        How many there are.
    width
        Entries of all groups together: ``groups * K``.
    make
        From a block to its rows ``[groups, rows, K]``, in the type that is computed in.
    """

    count: int
    width: int
    make: Callable[[slice], Tensor]

    def blocks(self, part: slice = slice(None)) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks and their rows, with a part of K only."""
        step = max(1, _BLOCK // max(1, self.width))
        if step >= self.count:
            yield slice(0, self.count), self._whole()[..., part]
            return
        for start in range(0, self.count, step):
            block = slice(start, min(start + step, self.count))
            yield block, self.make(block)[..., part]

    def _whole(self) -> Tensor:
        found = vars(self).get("_kept")
        if found is None:
            found = vars(self)["_kept"] = self.make(slice(0, self.count))
        return found

    def times(self, matrices: Tensor) -> Tensor:
        """Return the products with ``[groups, K, N]``, of all rows: ``[groups, R, N]``."""
        return torch.cat([rows @ matrices for _, rows in self.blocks()], 1)

    def mean(self) -> Tensor:
        """Return the mean row: ``[groups, 1, K]``."""
        return sum(rows.sum(1, keepdim=True) for _, rows in self.blocks()) / self.count  # type: ignore[return-value]


@dataclass(frozen=True, eq=False)
class Solution:
    """What is added to a layer's matrices ``[groups, K, N]`` and to its outputs ``[groups, 1, N]``."""

    change: Tensor
    shift: Tensor


def solve(rows: Rows, error: Tensor, *, ridge: float, free: bool, keep: Tensor | None = None) -> Solution:
    """Return the change D and the shift b of least ``|X D + b - E|^2 + ridge * mean(diag X'X) * |D|^2``.

    With a free shift the rows are taken about their mean. Of more than 4096 inputs so many at a time are solved for,
    each on the errors that the ones before leave.

    Parameters
    ----------
    rows
        Those of `X`.
    error
        What is missing of the outputs: ``[groups, R, N]``.
    ridge
        Weight of the change.
    free
        Whether there is a shift.
    keep
        Where the change may differ from zero: bool ``[groups, K, N]``; None for everywhere.
    """
    mean = rows.mean() if free else None
    width = rows.width // len(error)
    if width > _WIDE and keep is None and rows.count <= _WIDE:
        change = _dual(rows, _about(error, free), ridge, mean)
    else:
        left, parts = _about(error, free), []
        for start in range(0, width, _WIDE):
            part = slice(start, min(start + _WIDE, width))
            parts.append(_part(rows, part, left, ridge, mean, None if keep is None else keep[:, part]))
            if part.stop < width:
                left = left - _products(rows, part, parts[-1], mean)
        change = torch.cat(parts, 1)
    if mean is None:
        return Solution(change, torch.zeros_like(error[:, :1]))
    return Solution(change, error.mean(1, keepdim=True) - mean @ change)


def _about(error: Tensor, free: bool) -> Tensor:
    return error - error.mean(1, keepdim=True) if free else error


def _centred(rows: Rows, part: slice, mean: Tensor | None) -> Iterator[tuple[slice, Tensor]]:
    for block, found in rows.blocks(part):
        yield block, found if mean is None else found - mean[..., part]


def _products(rows: Rows, part: slice, change: Tensor, mean: Tensor | None) -> Tensor:
    return torch.cat([found @ change for _, found in _centred(rows, part, mean)], 1)


def _part(
    rows: Rows, part: slice, error: Tensor, ridge: float, mean: Tensor | None, keep: Tensor | None
) -> Tensor:
    """Return the change of some inputs' rows of the matrices, by the normal equations."""
    gram, right = None, None
    for block, found in _centred(rows, part, mean):
        other = found.transpose(1, 2)
        products, errors = other @ found, other @ error[:, block]
        gram = products if gram is None else gram.add_(products)
        right = errors if right is None else right.add_(errors)
    assert gram is not None and right is not None
    diagonal = gram.diagonal(dim1=1, dim2=2)
    # what is never multiplied with anything but zero keeps its weight
    level = ridge * diagonal.mean(1, keepdim=True)
    diagonal.add_(level)
    if keep is None:
        return _factored(gram, right)
    return torch.stack([_masked(*one) for one in zip(gram, right, keep, strict=True)])


def _dual(rows: Rows, error: Tensor, ridge: float, mean: Tensor | None) -> Tensor:
    """Return the change by a system as large as there are rows, for layers with more inputs than that."""
    whole = torch.cat([found for _, found in _centred(rows, slice(None), mean)], 1)
    gram = whole @ whole.transpose(1, 2)
    level = ridge * gram.diagonal(dim1=1, dim2=2).sum(1, keepdim=True) / whole.size(2)
    gram.diagonal(dim1=1, dim2=2).add_(level)
    return whole.transpose(1, 2) @ _factored(gram, error)


def _factored(gram: Tensor, right: Tensor) -> Tensor:
    """Return the solution of positive semidefinite systems ``[groups, K, K]``, the least one where there are many."""
    scale = gram.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()[..., None]
    scaled = gram * scale * scale.transpose(1, 2)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    if not failed.any():
        found = torch.cholesky_solve(right * scale, factor) * scale
        # a factor of nearly dependent columns amplifies what was rounded
        if factor.diagonal(dim1=1, dim2=2).amin() > 64 * torch.finfo(gram.dtype).eps ** 0.5 and found.isfinite().all():
            return found
    values, vectors = torch.linalg.eigh(scaled.double())
    least = values.amax(1, keepdim=True) * torch.finfo(gram.dtype).eps
    inverse = torch.where(values > least, 1 / values.clamp_min(1e-300), 0)
    inside = vectors.transpose(1, 2) @ (right * scale).double()
    return (vectors @ (inverse[..., None] * inside)).to(gram.dtype) * scale


def _masked(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    """Return the solution ``[K, N]`` that is zero where `keep` is not, by what takes less work."""
    supports: dict[bytes, list[int]] = {}
    for column, bits in enumerate(np.packbits(keep.T.cpu().numpy(), axis=1)):
        supports.setdefault(bits.tobytes(), []).append(column)
    sizes = [int(keep[:, columns[0]].count_nonzero()) for columns in supports.values()]
    exact = sum(size**3 / 3 + 2 * size**2 * len(c) for size, c in zip(sizes, supports.values(), strict=True))
    if exact > len(gram) ** 3 / 3 + 2 * _STEPS * len(gram) ** 2 * right.size(1):
        return _alternating(gram, right, keep)
    found = torch.zeros_like(right)
    for columns in supports.values():
        rows = keep[:, columns[0]].nonzero().squeeze(1)
        if len(rows):
            at = torch.tensor(columns, device=gram.device)
            inner = _factored(gram[rows][:, rows][None], right[rows][:, at][None])[0]
            found[rows[:, None], at] = inner
    return found


def _alternating(gram: Tensor, right: Tensor, keep: Tensor) -> Tensor:
    """Return nearly that solution, by alternating directions (ADMM) on one factor."""
    scale = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()[:, None]
    scaled, right = gram * scale * scale.T, right * scale
    scaled.diagonal().add_(_WEIGHT)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(scaled))
    found, dual = torch.zeros_like(right), torch.zeros_like(right)
    for _ in range(_STEPS):
        free = inverse @ (right + _WEIGHT * (found - dual))
        found = (free + dual).mul_(keep)
        dual += free - found
    return found * scale
