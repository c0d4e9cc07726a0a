"""Ladder: the recipes of uniform ratios that every study begins with, whatever its sampler."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.utils.checks import checked_number
from spaces import PruningError, PruningSpace
from spaces.granularity import checked_ratio

__all__ = ["Ladder", "checked_ladder", "ladder_rows"]

Ladder = int | Sequence[float]
"""Uniform ratios: how many, or which."""

# more differ in no layer that is known
_MOST = 10_000


def checked_ladder(ladder: Any) -> None:
    """Check that `ladder` is a number of uniform ratios, or a list of them.

    Raises
    ------
    PruningError
        If it is anything else, there are too many, or a ratio is not in (0, 1].
    """
    if isinstance(ladder, Sequence) and not isinstance(ladder, str):
        if len(ladder) > _MOST:
            raise PruningError(f"ladder: {len(ladder)} ratios, allowed are at most {_MOST}")
        for ratio in ladder:
            checked_ratio("ladder", ratio)
    else:
        checked_number("ladder", ladder, least=0, most=_MOST)


def ladder_rows(space: PruningSpace, ladder: Ladder) -> list[npt.NDArray[np.int16]]:
    """Return the rows of uniform ratios: those given, or so many evenly spaced from the space's least to 1.

    A space of several families (channels, kinds of pattern, blocks) has a ladder of each, of two ratios below 1 at
    least. The dense network is left out.
    """
    families = len(space.families)
    rows = []
    for family, places in space.families.items():
        ratios: Iterable[float] = ladder if isinstance(ladder, Sequence) else ()
        if isinstance(ladder, int) and ladder:
            axes = [(space.axes[place], name) for place, name in places.items()]
            least = min(axis.ratios[i] for axis, name in axes for i in axis.families[name])
            ratios = np.linspace(least, 1, ladder if families == 1 else max(3, -(-ladder // families)))
        rows += [space.uniform(ratio, family) for ratio in ratios]
    pruned = [row for row in rows if not space.is_dense(row)]
    return list({row.tobytes(): row for row in pruned}.values())
