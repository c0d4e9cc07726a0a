"""Parameters: the axes of a space as Optuna's samplers see them, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

from spaces import Axis, PruningSpace

__all__ = ["Parameters"]


class Parameters:
    """The axes of a space as Optuna's parameters, always the same ones.

    An axis is an ordered integer, what keeps most first. Where a weight has several kinds of pattern it is two
    parameters: the kind, and the ratio on the grid of all of them, which snaps to the nearest that the kind allows.

    Parameters
    ----------
    space
        The space.
    """

    def __init__(self, space: PruningSpace) -> None:
        self.space = space
        self.distributions: dict[str, BaseDistribution] = {}
        for axis in space.axes:
            if _is_pair(axis):
                self.distributions[f"{axis.label}.granularity"] = CategoricalDistribution(axis.kinds)
                self.distributions[f"{axis.label}.ratio"] = IntDistribution(0, len(axis.grid) - 1)
            else:
                self.distributions[axis.label] = IntDistribution(0, len(axis.choices) - 1)

    def row(self, params: Mapping[str, Any]) -> npt.NDArray[np.int16]:
        """Return the canonical row of a trial's parameters."""
        row = np.empty((1, len(self.space.axes)), dtype=np.int16)
        for place, axis in enumerate(self.space.axes):
            if _is_pair(axis):
                ratio = axis.grid[params[f"{axis.label}.ratio"]]
                row[0, place] = axis.nearest(ratio, params[f"{axis.label}.granularity"])
            else:
                row[0, place] = params[axis.label]
        return self.space.canonical(row)[0]

    def of(self, row: npt.NDArray) -> dict[str, Any]:
        """Return parameters of a row; `row` of them gives it back."""
        params: dict[str, Any] = {}
        for axis, choice in zip(self.space.axes, row.tolist(), strict=True):
            if _is_pair(axis):
                kind = next(kind for kind, members in axis.families.items() if choice in members)
                params[f"{axis.label}.granularity"] = kind
                params[f"{axis.label}.ratio"] = axis.grid.index(axis.ratios[choice])
            else:
                params[axis.label] = choice
        return params


def _is_pair(axis: Axis) -> bool:
    return len(axis.kinds) > 1
