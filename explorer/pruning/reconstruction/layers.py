"""One layer of a sub-network: its rows, what it is to give, and the solution written to its tensors."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

import torch
from torch import Tensor

from explorer.pruning.reconstruction.affine import Behind
from explorer.pruning.reconstruction.places import Places
from explorer.pruning.reconstruction.products import Product
from explorer.pruning.reconstruction.solving import Rows, solver
from explorer.pruning.reconstruction.targets import Use, rows_of
from spaces import PruningError

__all__ = ["Layer", "Outcome"]

# share of a target's variance below which nothing is missing: what differs is rounding
_ROUNDING = 1e-9
# share of a target's mean square that its variance is taken to have at least
_LEAST = 1e-6
# times that a clipped layer is solved anew, each for targets that are as good
_CLIPPED = 3


class Outcome(Enum):
    """What became of a layer."""

    SOLVED = "solved"
    UNCHANGED = "unchanged"


@dataclass(eq=False)
class Layer:
    """A layer of a sub-network that is about to run.

    Parameters
    ----------
    product
        Its operation.
    behind
        What follows it.
    places
        Where its outputs are compared.
    uses
        Those of the dense layer: this run, and later ones of the same weight.
    written, read
        The kept entries of what the dense layer writes in this run, and of what it reads.
    summand
        What is added to its output behind `behind`, in the shape of the output; None where the output itself counts.
    bounds
        Below and above which what comes out, or the sum, is clipped before anything reads it; None where it is not.
    """

    product: Product
    behind: Behind
    places: Places
    uses: tuple[Use, ...]
    written: Tensor
    read: Tensor
    summand: Tensor | None
    bounds: tuple[float, float] | None

    def __post_init__(self) -> None:
        product = self.product
        self._dtype = torch.float64 if product.weight.dtype == torch.float64 else torch.float32
        self._device = product.source.device
        self._total = self.uses[0].layout.places
        self._at = self.places.rows(self._total, self._device)
        # the inputs of later runs are not known yet, those of the dense network stand for them
        self._later = [use for use in self.uses[1:] if use.inputs is not None and product.groups == 1]
        inherited = product.matrices(product.weight).to(self._dtype)
        self._inherited, (self._groups, self._inputs, self._outputs) = inherited, inherited.shape
        self._factor, self._shift = self.behind.affine(self._groups * self._outputs, self._dtype, self._device)
        self.count = len(self._at) + sum(len(use.output) for use in self._later)

    @property
    def underdetermined(self) -> bool:
        """Whether there are fewer rows than unknowns of an output."""
        return self.count <= self._inputs

    def solve(self, ridge: float, keep: Tensor | None) -> Outcome:
        """Solve the layer, and write the solution to its tensors and those behind it.

        Parameters
        ----------
        ridge
            Weight of the distance to the inherited weights.
        keep
            Where the weight may differ from zero, bool of its shape; None for everywhere.

        Raises
        ------
        PruningError
            If what it reads or is to give is not finite.
        """
        rows = Rows(self.count, self._groups * self._inputs, self._rows)
        target = torch.cat([self._target(use) for use in (self.uses[0], *self._later)])
        target = target.view(self.count, self._groups, self._outputs).transpose(0, 1)
        start = self._shift
        if self.product.bias is not None:
            start = start + self._factor * self.product.bias.to(self._dtype)
        start = start.view(self._groups, 1, self._outputs)
        level = target.mean(1, keepdim=True)
        centre = rows.centre() if self.behind.shifts else None
        solution = self._inherited * self._factor.view(self._groups, 1, self._outputs)
        error = (target - (start if centre is None else level)).sub_(rows.times(solution))
        offset = 0 if centre is None else level - start - centre @ solution
        missing = error.square().mean(1) + torch.as_tensor(offset).square()
        if not missing.isfinite().all():
            raise PruningError(f"reconstruction: what {self.uses[0].weight} reads or is to give is not finite")
        wanted = (target - level).square().mean(1)
        if missing.sum() <= _ROUNDING * torch.maximum(wanted, _LEAST * level.square()).sum():
            return Outcome.UNCHANGED
        matrices = None if keep is None else self.product.matrices(keep)
        change = solver(rows, groups=self._groups, ridge=ridge, keep=matrices)
        inherited, wish = solution, target
        solution = inherited + change(error)
        # a later run of the same weight may be read without being clipped
        clipped = self.bounds is not None and not self._later
        low, high = self._limits() if clipped else (-inf, inf)
        for _ in range(_CLIPPED if clipped else 0):
            given = rows.times(solution).add_(start if centre is None else level)
            wished = _as_good(target, given, low, high)
            former, level = level, wished.mean(1, keepdim=True)
            error += wished - wish
            if centre is not None:
                error += former - level
            wish = wished
            solution = inherited + change(error)
        shift, mean, variance = start, torch.zeros_like(start), torch.zeros_like(start)
        if centre is not None:
            mean = centre @ solution
            shift = level - mean
        if self.behind.norm is not None:
            variance = rows.times(solution).square().mean(1, keepdim=True)
        parts = (_columns(part)[0] for part in (shift, mean, variance))
        columns = self.behind.written(_columns(solution), _columns(self._inherited), *parts)
        found = columns.view(self._inputs, self._groups, self._outputs).transpose(0, 1)
        self.product.weight.copy_(self.product.as_weight(found if matrices is None else found * matrices))
        return Outcome.SOLVED

    def _limits(self) -> tuple[Tensor | float, Tensor | float]:
        """Return below and above which targets are clipped: numbers, or one for each target where there is a sum."""
        assert self.bounds is not None
        if self.summand is None:
            return self.bounds
        other = rows_of(self.summand, self._at).to(self._dtype)
        other = other.view(self.count, self._groups, self._outputs).transpose(0, 1)
        low, high = self.bounds
        return low - other, inf if high == inf else high - other

    def _rows(self, block: slice) -> Tensor:
        taps = self.places.taps(self.product.geometry, self._total, self._device)
        first = self.product.rows(taps, slice(block.start, min(block.stop, len(self._at)))).to(self._dtype)
        if block.stop <= len(self._at):
            return first
        later = torch.cat([_flat(use.inputs, self.read) for use in self._later]).to(self._dtype)
        start = max(0, block.start - len(self._at))
        return torch.cat([first[0], later[start : block.stop - len(self._at)]])[None]

    def _target(self, use: Use) -> Tensor:
        """Return what is to come out behind `behind`: ``[rows, groups * N]``."""
        at = (self.written - use.columns.start).to(self._device)
        if self.summand is not None and use is self.uses[0] and use.total is not None:
            return use.total.index_select(1, at).to(self._dtype) - rows_of(self.summand, self._at).to(self._dtype)
        return use.output.index_select(1, at).to(self._dtype) * self._factor + self._shift


def _as_good(target: Tensor, given: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """Return the targets next to what is given among those that give the same once they are clipped."""
    found = torch.where(target <= low, given.clamp(max=low), target)
    return (
        found if isinstance(high, float) and high == inf else torch.where(target >= high, given.clamp(min=high), found)
    )


def _flat(inputs: Tensor | None, read: Tensor) -> Tensor:
    """Return the rows of `X` that the dense network had, the kept inputs only."""
    assert inputs is not None
    return inputs.index_select(2, read.to(inputs.device)).flatten(1)


def _columns(matrices: Tensor) -> Tensor:
    """Return the columns of all groups side by side: ``[K, groups * N]``."""
    return matrices.transpose(0, 1).flatten(1)
