"""Which channels a recipe keeps: the best by their scores."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from explorer.pruning.surgery import Kept
from spaces import ChannelUnit, Network, Recipe, unknown
from spaces.granularity import kept_steps

__all__ = ["Ranking"]


class Ranking:
    """The atoms of every unit in order of importance, from which recipes take the best.

    Parameters
    ----------
    network
        The network.
    scores
        A score for every atom of every unit; equal scores are ordered by index.
    """

    def __init__(self, network: Network, scores: Mapping[str, Tensor]) -> None:
        self.network = network
        self._order = {
            unit.name: scores[unit.name].reshape(unit.groups, -1).argsort(dim=1, descending=True, stable=True)
            for unit in network.units
        }
        self._kept: dict[tuple[str, int], Tensor] = {}

    def kept(self, recipe: Recipe) -> Kept:
        """Return the sorted atoms that `recipe` keeps of each unit it prunes.

        Raises
        ------
        PruningError
            If the recipe names a unit the network does not have.
        """
        kept = {}
        for name, ratio in recipe.channels:
            if name not in self.network.unit:
                raise unknown("recipe.channels", name, self.network.unit)
            unit = self.network.unit[name]
            steps = kept_steps(ratio, unit.steps)
            if steps < unit.steps:
                kept[name] = self._best(unit, steps)
        return kept

    def _best(self, unit: ChannelUnit, steps: int) -> Tensor:
        found = self._kept.get((unit.name, steps))
        if found is None:
            best = self._order[unit.name][:, :steps].sort(dim=1).values
            offset = torch.arange(unit.groups)[:, None] * (unit.atoms // unit.groups)
            found = self._kept[unit.name, steps] = (best + offset).reshape(-1)
        return found
