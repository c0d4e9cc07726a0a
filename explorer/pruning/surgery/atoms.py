"""Atoms: the smallest parts that can be removed, numbered through all units of a network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from spaces import Dim, Network, Span

__all__ = ["Atoms", "Kept"]

Kept = Mapping[str, Tensor]
"""Sorted indices of the atoms kept, by unit; units that are not named stay whole."""


class Atoms:
    """The atoms of all units numbered through, and which of them every tensor entry belongs to."""

    def __init__(self, network: Network) -> None:
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        total = 0
        for unit in network.units:
            self._first[unit.name] = total
            total += unit.atoms
            self._last[unit.name] = total
        # one number more for whatever is fixed
        self._fixed = total
        self._labels: dict[tuple[Span, ...], Tensor] = {}

    def numbers(self, unit: str) -> slice:
        """Return the numbers of a unit's atoms."""
        return slice(self._first[unit], self._last[unit])

    def labels(self, dim: Dim) -> Tensor:
        """Return the number of each entry's atom, as an int64 vector."""
        found = self._labels.get(dim.spans)
        if found is None:
            parts = []
            for span in dim.spans:
                if span.unit is None:
                    parts.append(torch.full((span.entries,), self._fixed))
                else:
                    first = self._first[span.unit] + span.start
                    parts.append(torch.arange(first, first + span.count).repeat_interleave(span.each))
            found = self._labels[dim.spans] = torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)
        return found

    def alive(self, kept: Kept) -> Tensor:
        """Return for every atom, and last for what is fixed, whether it stays."""
        # numpy's indexing of a few entries costs a tenth of torch's
        mask = np.ones(self._fixed + 1, dtype=bool)
        for unit, atoms in kept.items():
            mine = mask[self.numbers(unit)]
            mine[:] = False
            mine[atoms.numpy()] = True
        return torch.from_numpy(mask)
