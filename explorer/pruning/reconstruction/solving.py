"""Least squares: the change of a layer's matrices that makes up for the errors of its outputs, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["Rows", "solve"]

# entries of a block of rows, and inputs of a layer that are solved for together
_BLOCK, _WIDE = 1 << 24, 4096
# steps of the alternating directions, and the weight of a step over the mean of the diagonal
_STEPS, _WEIGHT = 60, 0.2


class Rows:
    """The rows that a layer multiplies, made block by block, and kept where one block holds all of them.

    Parameters
    ----------
    count
        How many there are.
    width
        Entries of all groups together: ``groups * K``.
    make
        From a block to its rows ``[groups, rows, K]``, fresh ones of the type that is computed in.
    """

    def __init__(self, count: int, width: int, make: Callable[[slice], Tensor]) -> None:
        self.count, self.width = count, width
        self._make = make
        self._kept: Tensor | None = None
        self._mean: Tensor | None = None

    def blocks(self, part: slice = slice(None)) -> Iterator[tuple[slice, Tensor]]:
        """Yield blocks and their rows, of these a part of K."""
        step = max(1, _BLOCK // max(1, self.width))
        if step >= self.count:
            whole = slice(0, self.count)
            if self._kept is None:
                self._kept = self._make(whole)
            yield whole, self._kept[..., part]
            return
        for start in range(0, self.count, step):
            block = slice(start, min(start + step, self.count))
            rows = self._make(block)
            yield block, (rows if self._mean is None else rows.sub_(self._mean))[..., part]

    def centre(self) -> Tensor:
        """Return the mean row ``[groups, 1, K]``, from which all are taken from now on."""
        mean = torch.stack([rows.sum(1, keepdim=True) for _, rows in self.blocks()]).sum(0) / self.count
        if self._kept is not None:
            self._kept.sub_(mean)
        self._mean = mean
        return mean

    def times(self, matrices: Tensor, part: slice = slice(None)) -> Tensor:
        """Return the products of all rows with ``[groups, K, N]``: ``[groups, R, N]``."""
        return torch.cat([rows @ matrices for _, rows in self.blocks(part)], 1)


def solve(rows: Rows, error: Tensor, *, ridge: float, keep: Tensor | None = None) -> Tensor:
    """Return the change D ``[groups, K, N]`` of least ``|X D - E|^2 + ridge * mean(diag X'X) * |D|^2``.

    Of more than 4096 inputs so many at a time are solved for, each on the errors that the ones before leave.

    Parameters
    ----------
    rows
        Those of `X`.
    error
        `E`, what is missing of the outputs: ``[groups, R, N]``.
    ridge
        Weight of the change.
    keep
        Where the change may differ from zero: bool ``[groups, K, N]``; None for everywhere.
    """
    width = rows.width // len(error)
    if width > _WIDE and keep is None and rows.count <= _WIDE:
        return _dual(rows, error, ridge)
    parts: list[Tensor] = []
    for start in range(0, width, _WIDE):
        part = slice(start, min(start + _WIDE, width))
        parts.append(_primal(rows, part, error, ridge, None if keep is None else keep[:, part]))
        if part.stop < width:
            error = error - rows.times(parts[-1], part)
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _primal(rows: Rows, part: slice, error: Tensor, ridge: float, keep: Tensor | None) -> Tensor:
    """Return the change of some rows of the matrices, by the normal equations."""
    length = part.stop - part.start
    gram = error.new_zeros(len(error), length, length)
    right = error.new_zeros(len(error), length, error.size(2))
    for block, found in rows.blocks(part):
        gram.baddbmm_(found.transpose(1, 2), found)
        right.baddbmm_(found.transpose(1, 2), error[:, block])
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal.add_(ridge * diagonal.mean(1, keepdim=True))
    if keep is None:
        return _factored(gram, right)
    return torch.stack([_masked(*one) for one in zip(gram, right, keep, strict=True)])


def _dual(rows: Rows, error: Tensor, ridge: float) -> Tensor:
    """Return the change by a system as large as there are rows, for layers with more inputs than that."""
    whole = torch.cat([found for _, found in rows.blocks()], 1)
    gram = whole @ whole.transpose(1, 2)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal.add_(ridge * diagonal.sum(1, keepdim=True) / whole.size(2))
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
