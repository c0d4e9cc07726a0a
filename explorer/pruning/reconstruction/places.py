"""Places: where in the calibration inputs layers are compared, drawn once for all candidates."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.pruning.reconstruction.products import Geometry, Taps

__all__ = ["Places", "marks_of"]


class Places:
    """Some places of every calibration input.

    They depend on an input's own values and the seed alone, so that the order of inputs and batches changes nothing.

    Parameters
    ----------
    marks
        A number for every input, see `marks_of`.
    positions
        Places of each input, at most.
    seed
        Of the draw.
    """

    def __init__(self, marks: Sequence[int], positions: int, seed: int) -> None:
        self._marks, self._positions, self._seed = marks, positions, seed
        self._rows: dict[tuple[int, torch.device], Tensor] = {}
        self._taps: dict[tuple[Geometry | None, int, torch.device], Taps] = {}

    def rows(self, total: int, device: torch.device) -> Tensor:
        """Return the places drawn among `total` of all inputs together, as ascending numbers."""
        key = (total, device)
        if key not in self._rows:
            self._rows[key] = torch.from_numpy(self._draw(total)).to(device)
        return self._rows[key]

    def taps(self, geometry: Geometry | None, total: int, device: torch.device) -> Taps:
        """Return what the places drawn among `total` read of a convolution's, or a linear layer's, input."""
        key = (geometry, total, device)
        if key not in self._taps:
            rows = self.rows(total, device)
            self._taps[key] = Taps(rows, None) if geometry is None else Taps.of(geometry, rows)
        return self._taps[key]

    def _draw(self, total: int) -> np.ndarray:
        count = len(self._marks)
        each, rest = divmod(total, count)
        if rest:
            # no number of places an input: some of all
            rng = np.random.default_rng([self._seed, *sorted(self._marks)])
            return np.sort(rng.choice(total, min(total, count * self._positions), replace=False))
        if each <= self._positions:
            return np.arange(total)
        parts = []
        for number, mark in enumerate(self._marks):
            chosen = np.random.default_rng([self._seed, mark]).choice(each, self._positions, replace=False)
            parts.append(number * each + np.sort(chosen))
        return np.concatenate(parts)


def marks_of(inputs: Any, count: int) -> list[int]:
    """Return a number for every input that is made of its values; the batch dimension is the first of every tensor."""
    marks = [0] * count
    for leaf in tree_leaves(inputs):
        if isinstance(leaf, Tensor) and leaf.dim() and leaf.size(0) == count:
            # as bytes: numpy knows no bfloat16
            rows = leaf.detach().cpu().contiguous().flatten(1) if leaf.dim() > 1 else leaf.detach().cpu()[:, None]
            data = rows.contiguous().view(torch.uint8).numpy()
            marks = [zlib.crc32(row, mark) for row, mark in zip(data, marks, strict=True)]
    return marks
