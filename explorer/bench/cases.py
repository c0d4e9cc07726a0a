"""What the benchmarks run on: a traced network with random weights, and its space of all channels in eighths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explorer import models
from explorer.bench.resnet50 import resnet50
from explorer.models.zoo import transformers
from explorer.pruning.criteria import score
from explorer.pruning.pruner import Pruner
from explorer.tracing import trace
from spaces import Network, PruningSpace, Recipe

__all__ = ["LARGE", "Case"]

_TOKENS = 1000


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
        """Return the case of a built-in network or of one of `LARGE`, at the size of input it is meant for."""
        if name in LARGE:
            return cls(*LARGE[name](), name)
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

    def inputs(self, count: int) -> Tensor:
        """Return so many random inputs of the example's shape: pixels, or tokens of which every vocabulary has some."""
        shape = (count, *self.example.shape[1:])
        return torch.randn(shape) if self.example.is_floating_point() else torch.randint(_TOKENS, shape)


def _resnet50() -> tuple[nn.Module, Tensor]:
    return resnet50(num_classes=10), torch.zeros(1, 3, 224, 224)


def _distilbert() -> tuple[nn.Module, Tensor]:
    return transformers(architecture="distilbert", num_classes=10), torch.randint(_TOKENS, (1, 128))


LARGE: Mapping[str, Callable[[], tuple[nn.Module, Tensor]]] = {"resnet50": _resnet50, "distilbert": _distilbert}
"""Networks besides the built-in ones, each with an example: ResNet-50 at 224 x 224, and transformers' DistilBERT (67 M
parameters) with 128 tokens."""
