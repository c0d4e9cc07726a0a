"""Least squares: the change of a layer's matrices that makes up for the errors of its outputs, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

__all__ = ["Alternating", "Rows", "Solve", "solver"]

# entries of a block of rows, and inputs of a layer that are solved for together
_BLOCK, _WIDE = 1 << 24, 4096
# steps of the alternating directions, and the weight of a step over the mean of the diagonal
_STEPS, _WEIGHT = 60, 0.2

Solve = Callable[[Tensor], Tensor]
"""From a right side to a solution."""


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

    def against(self, error: Tensor, part: slice = slice(None)) -> Tensor:
        """Return ``X'E`` for errors ``[groups, R, N]``: ``[groups, K, N]``."""
        return _summed(rows.transpose(1, 2) @ error[:, block] for block, rows in self.blocks(part))


def _summed(parts: Iterator[Tensor]) -> Tensor:
    """Return the sum of fresh tensors, one of them at a time beside it."""
    total = next(parts)
    for part in parts:
        total += part
    return total


def solver(rows: Rows, *, groups: int, ridge: float, keep: Tensor | None = None) -> Solve:
    """Return what gives, for errors E, the change D of least ``|X D - E|^2 + ridge * mean(diag X'X) * |D|^2``.

    The system is factored once. Of more than 4096 inputs so many at a time are solved for, each on the errors that the
    ones before leave. Errors are ``[groups, R, N]``, a change is ``[groups, K, N]``.

    Parameters
    ----------
    rows
        Those of `X`.
    groups
        How many matrices they are multiplied with.
    ridge
        Weight of the change.
    keep
        Where the change may differ from zero: bool ``[groups, K, N]``; None for everywhere.
    """
    width = rows.width // groups
    if width > _WIDE and keep is None and rows.count <= _WIDE:
        return _dual(rows, ridge)
    starts = range(0, width, _WIDE)
    parts = [slice(start, min(start + _WIDE, width)) for start in starts]
    solvers = [_primal(rows, part, groups, ridge, None if keep is None else keep[:, part]) for part in parts]

    def change(error: Tensor) -> Tensor:
        found: list[Tensor] = []
        for part, solve in zip(parts, solvers, strict=True):
            if found:
                error = error - rows.times(found[-1], parts[len(found) - 1])
            found.append(solve(rows.against(error, part)))
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    return change


def _primal(rows: Rows, part: slice, groups: int, ridge: float, keep: Tensor | None) -> Solve:
    """Return what solves the normal equations of some rows of the matrices, by their right sides."""
    gram = _summed(found.transpose(1, 2) @ found for _, found in rows.blocks(part))
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal.add_(ridge * diagonal.mean(1, keepdim=True))
    if keep is None:
        return _factored(gram)
    masked = [_masked(*one) for one in zip(gram, keep, strict=True)]
    return lambda right: torch.stack([solve(one) for solve, one in zip(masked, right, strict=True)])


def _dual(rows: Rows, ridge: float) -> Solve:
    """Return what gives the change by a system as large as there are rows, for layers with more inputs than that."""
    whole = torch.cat([found for _, found in rows.blocks()], 1)
    gram = whole @ whole.transpose(1, 2)
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal.add_(ridge * diagonal.sum(1, keepdim=True) / whole.size(2))
    solve = _factored(gram)
    return lambda error: whole.transpose(1, 2) @ solve(error)


def _factored(gram: Tensor) -> Solve:
    """Return what solves positive semidefinite systems ``[groups, K, K]``, with the least where there are many."""
    scale = gram.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()[..., None]
    scaled = gram * scale * scale.transpose(1, 2)
    factor, failed = torch.linalg.cholesky_ex(scaled)
    # a factor of nearly dependent columns amplifies what was rounded
    if not failed.any() and factor.diagonal(dim1=1, dim2=2).amin() > 64 * torch.finfo(gram.dtype).eps ** 0.5:
        return lambda right: torch.cholesky_solve(right * scale, factor) * scale
    values, vectors = torch.linalg.eigh(scaled.double())
    least = values.amax(1, keepdim=True) * torch.finfo(gram.dtype).eps
    inverse = torch.where(values > least, 1 / values.clamp_min(1e-300), 0)

    def by_vectors(right: Tensor) -> Tensor:
        inside = vectors.transpose(1, 2) @ (right * scale).double()
        return (vectors @ (inverse[..., None] * inside)).to(gram.dtype) * scale

    return by_vectors


def _masked(gram: Tensor, keep: Tensor) -> Solve:
    """Return what gives solutions ``[K, N]`` that are zero where `keep` is not, by what takes less work."""
    supports: dict[bytes, list[int]] = {}
    for column, bits in enumerate(np.packbits(keep.T.cpu().numpy(), axis=1)):
        supports.setdefault(bits.tobytes(), []).append(column)
    sizes = [int(keep[:, columns[0]].count_nonzero()) for columns in supports.values()]
    exact = sum(size**3 / 3 + 2 * size**2 * len(c) for size, c in zip(sizes, supports.values(), strict=True))
    if exact > len(gram) ** 3 / 3 + 2 * _STEPS * len(gram) ** 2 * keep.size(1):
        return Alternating(gram, keep)
    parts = []
    for columns in supports.values():
        inside = keep[:, columns[0]].nonzero().squeeze(1)
        if len(inside):
            at = torch.tensor(columns, device=gram.device)
            parts.append((inside, at, _factored(gram[inside][:, inside][None])))

    def by_columns(right: Tensor) -> Tensor:
        found = torch.zeros_like(right)
        for inside, at, solve in parts:
            found[inside[:, None], at] = solve(right[inside][:, at][None])[0]
        return found

    return by_columns


class Alternating:
    """Nearly that solution, by alternating directions (ADMM) on one factor; a call goes on from what the last found.

    Parameters
    ----------
    gram
        ``[K, K]``, positive definite but for rounding.
    keep
        Where a solution may differ from zero: bool ``[K, N]``.
    """

    def __init__(self, gram: Tensor, keep: Tensor) -> None:
        self._scale = gram.diagonal().clamp_min(torch.finfo(gram.dtype).tiny).rsqrt()[:, None]
        scaled = gram * self._scale * self._scale.T
        scaled.diagonal().add_(_WEIGHT)
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(scaled))
        self._keep, self._steps = keep, _STEPS
        self._found = self._dual = gram.new_zeros(keep.shape)

    def __call__(self, right: Tensor) -> Tensor:
        """Return the solution ``[K, N]`` for a right side."""
        right, found, dual = right * self._scale, self._found, self._dual
        for _ in range(self._steps):
            free = self._inverse @ (right + _WEIGHT * (found - dual))
            found = (free + dual).mul_(self._keep)
            dual = dual + free - found
        self._found, self._dual, self._steps = found, dual, _STEPS // 4
        return found * self._scale
