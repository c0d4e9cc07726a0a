"""What the benchmarks run on: a traced network with random weights, and its space of all channels in eighths."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explorer import models
from explorer.pruning.criteria import score
from explorer.pruning.pruner import Pruner
from explorer.tracing import trace
from spaces import Network, PruningSpace, Recipe

__all__ = ["Case"]


@dataclass
class Case:
    """A model in eval mode, an example input, and the pruner that makes sub-networks."""

    model: nn.Module
    example: Tensor
    name: str
    network: Network = field(init=False)
    pruner: Pruner = field(init=False)

    def __post_init__(self) -> None:
        self.model.eval()
        self.network = trace(self.model, self.example, name=self.name)
        self.pruner = Pruner(self.model, self.network, score(self.model, self.network))

    @classmethod
    def built_in(cls, name: str) -> Case:
        """Return the case of a built-in network, at the image size it is meant for."""
        shape = (1, 8, 8) if name.endswith("_digits") else (3, 32, 32)
        return cls(models.build(name, in_channels=shape[0]), torch.zeros(1, *shape), name)

    @property
    def space(self) -> PruningSpace:
        """All channel units, in eighths."""
        eighths = {"granularity": "filter", "ratios": [i / 8 for i in range(1, 9)]}
        return PruningSpace.from_config(self.network, {"channels": [{"match": "*", "choices": [eighths]}]})

    def build(self, recipe: Recipe) -> nn.Module:
        """Return the sub-network of a recipe."""
        return self.pruner(recipe)[0]
