"""Sensitivity: how much every choice of a space, made alone, changes the network's predictions, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from spaces import Axis, Pattern, PruningSpace

__all__ = ["sensitivity_table"]

_WHOLE = {"channels": "filter", "blocks": "layer", "weights": "none"}


def sensitivity_table(
    space: PruningSpace, changes: Sequence[npt.NDArray[np.float64]], measured: Sequence[npt.NDArray[np.bool_]]
) -> pd.DataFrame:
    """Return one row a choice of the space, in the order of its axes, what keeps most first.

    Columns: ``axis`` (its label), ``layer`` (what it is named after), ``granularity`` (with its parameters; ``none``
    for a dense weight), ``ratio`` kept, ``change`` (the mean squared change of the predictions over their variance,
    where this choice alone is made), ``measured`` (false where the change was interpolated), and ``flops`` and
    ``params`` of that recipe relative to the dense network.

    Parameters
    ----------
    space
        The space.
    changes, measured
        For each axis and choice the change, and whether it was measured.
    """
    places = [(place, choice) for place, axis in enumerate(space.axes) for choice in range(len(axis.choices))]
    rows = np.zeros((len(places), len(space.axes)), dtype=np.int16)
    for row, (place, choice) in zip(rows, places, strict=True):
        row[place] = choice
    costs = space.costs(rows)
    axes = [space.axes[place] for place, _ in places]
    columns: dict[str, object] = {
        "axis": [axis.label for axis in axes],
        "layer": [axis.name for axis in axes],
        "granularity": [_granularity(space.axes[place], choice) for place, choice in places],
        "ratio": [space.axes[place].ratios[choice] for place, choice in places],
        "change": np.concatenate(list(changes)),
        "measured": np.concatenate(list(measured)),
    }
    columns |= {name: costs[name] / space.dense[name] for name in ("flops", "params")}
    return pd.DataFrame(columns)


def _granularity(axis: Axis, choice: int) -> str:
    made = axis.choices[choice]
    return made.kind if isinstance(made, Pattern) else _WHOLE[axis.part]
