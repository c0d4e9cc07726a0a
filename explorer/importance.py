"""Scores of channels, and which channels a recipe keeps by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from explorer.surgery import Atoms, Kept
from spaces import ChannelUnit, Network, Recipe, unknown
from spaces.granularity import kept_steps

__all__ = ["CRITERIA", "Ranking", "channel_scores"]

CRITERIA: Mapping[str, Callable[[Tensor], Tensor]] = {"l1": torch.abs, "l2": torch.square}
"""Score of a single weight by criterion: magnitude (Li et al. 2017, arXiv 1608.08710) and its square."""


def channel_scores(model: nn.Module, network: Network, criterion: str = "l1") -> dict[str, Tensor]:
    """Return a score for every atom of every unit; the least are removed first.

    A channel has entries in several weights: the filters that write it and the inputs of its readers. In each
    the scores of its weights are summed and divided by the mean over the weight's channels, so that no member
    outvotes the others by its scale; the atom's score is the sum over members.

    Parameters
    ----------
    model
        The dense network.
    network
        What `trace` said of it.
    criterion
        One of `CRITERIA`.

    Raises
    ------
    PruningError
        If the criterion is unknown.
    """
    if criterion not in CRITERIA:
        raise unknown("criterion", criterion, CRITERIA)
    weight_score = CRITERIA[criterion]
    atoms = Atoms(network)
    # a buffer can be a convolution's weight too (a fixed blur)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    # float64 on the CPU: sums do not depend on the number of threads that make them
    total = torch.zeros(len(atoms.alive({})), dtype=torch.float64)
    for layer in dict.fromkeys(layer.weight for layer in network.layers):
        weight = weight_score(tensors[layer].detach().double().cpu())
        for axis, dim in enumerate(network.tensor[layer].dims):
            if not dim.units:
                continue
            if dim.groups > 1:
                rows = weight.unflatten(0, (dim.groups, -1)).movedim(axis + 1, 1)
                entries = rows.flatten(2).sum(2).flatten()
            else:
                entries = weight.movedim(axis, 0).flatten(1).sum(1)
            total.index_add_(0, atoms.labels(dim), entries / entries.mean().clamp_min(1e-300))
    return {unit.name: total[atoms.numbers(unit.name)] for unit in network.units}


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
