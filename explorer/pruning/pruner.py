"""Pruner: from a recipe to a smaller module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from explorer.pruning.criteria import Scores
from explorer.pruning.patterns import Masks, make_masks, put_on, weight_of
from explorer.pruning.ranking import Ranking
from explorer.pruning.surgery import Kept, Surgeon
from spaces import Network, Recipe

__all__ = ["Pruner"]


@dataclass(frozen=True, eq=False, repr=False)
class Pruner:
    """Makes the sub-networks of one model: blocks dropped, channels sliced, patterns put on what is left.

    Parameters
    ----------
    model
        The network whose weights sub-networks get; they are read at every call.
    network
        What `trace` said of it.
    scores
        What its channels and weights are worth: which of them recipes keep.

    Raises
    ------
    PruningError
        If the model lacks a tensor of the network, or has one of another shape.

    Examples
    --------
    >>> import torch
    >>> from explorer.pruning.criteria import score
    >>> from explorer.tracing import trace
    >>> model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> network = trace(model, torch.zeros(1, 2))
    >>> module, masks = Pruner(model, network, score(model, network))(Recipe.of({"0": 0.5}))
    >>> module[0].weight.shape
    torch.Size([2, 2])
    """

    model: nn.Module
    network: Network
    scores: Scores
    surgeon: Surgeon = field(init=False)
    ranking: Ranking = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "surgeon", Surgeon(self.model, self.network))
        object.__setattr__(self, "ranking", Ranking(self.network, self.scores.channels))

    def __call__(self, recipe: Recipe) -> tuple[nn.Module, Masks]:
        """Return the sub-network in the modes of the model, and the masks of its weights.

        Weights that a pattern removes are zero, and training keeps them zero.

        Raises
        ------
        PruningError
            If the recipe names a unit that the network does not have, or a layer cannot have its pattern.
        """
        kept = self.kept(recipe)
        module = self.surgeon.build(kept, recipe.blocks)
        masks = self._masks(recipe, kept)
        put_on(module, self.network, masks)
        return module, masks

    def kept(self, recipe: Recipe) -> Kept:
        """Return the atoms that a recipe keeps of each unit it prunes."""
        return self.ranking.kept(recipe)

    def masks(self, recipe: Recipe) -> Masks:
        """Return the masks of a recipe's patterns, without building its module."""
        return self._masks(recipe, self.kept(recipe))

    def sliced(self, tensors: Mapping[str, Tensor], recipe: Recipe, masks: Masks) -> dict[str, Tensor]:
        """Return the parts of the dense tensors that a sub-network has, masks multiplied in; gradients flow back.

        Parameters
        ----------
        tensors
            By the name of the model's tensor whose shape they have; no tensor of a block that the recipe drops.
        recipe, masks
            Of the sub-network.
        """
        small = self.surgeon.sliced(tensors, self.kept(recipe))
        for name, (_, mask) in masks.items():
            layer = self.network.layer[name]
            if layer.weight in small:
                weight = small[layer.weight]
                small[layer.weight] = weight * weight_of(self.network, layer, mask.keep, weight)
        return small

    def _masks(self, recipe: Recipe, kept: Kept) -> Masks:
        return make_masks(self.surgeon, recipe, kept, self.scores.weights)
