"""Layer numbers: the places that the layers of a sub-network have in a cache of keys and values."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

__all__ = ["LayerNumbers"]

# by which models of transformers know a layer's place in their cache, and what kind of place that is
_NUMBER, _KINDS = "layer_idx", ("attention_type", "layer_type", "is_sliding", "sliding_window")


@dataclass(frozen=True)
class _Layer:
    name: str
    number: int
    kind: tuple[Any, ...]
    modules: tuple[nn.Module, ...]


class LayerNumbers:
    """The numbered layers of a model.

    Models ask the cache's first place of each kind how many tokens it holds. So the layers that stay take the first
    places of their kind, where others are left out.

    Parameters
    ----------
    model
        The dense model.
    """

    def __init__(self, model: nn.Module) -> None:
        lists = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
        every = [list(_layers(name, part)) for name, part in lists]
        self._lists = [layers for layers in every if len({layer.number for layer in layers}) == len(layers)]

    def give(self, replaced: Mapping[int, Any], dropped: Collection[str]) -> None:
        """Number the layers of a sub-network anew.

        Parameters
        ----------
        replaced
            The sub-network's module by the id of the dense network's.
        dropped
            Names of the blocks that are left out.
        """
        for layers in self._lists:
            stay = [layer for layer in layers if layer.name not in dropped]
            if len(stay) == len(layers):
                continue
            free: dict[tuple[Any, ...], list[int]] = {}
            for layer in layers:
                free.setdefault(layer.kind, []).append(layer.number)
            for layer in stay:
                number = free[layer.kind].pop(0)
                for module in layer.modules:
                    if (small := replaced.get(id(module))) is not None:
                        vars(small)[_NUMBER] = number


def _layers(name: str, part: nn.ModuleList) -> Iterator[_Layer]:
    """Yield the layers of a list that have one number each."""
    for place, layer in enumerate(part):
        numbered = [module for module in layer.modules() if type(vars(module).get(_NUMBER)) is int]
        numbers = {vars(module)[_NUMBER] for module in numbered}
        if len(numbers) == 1:
            kind = tuple(str(vars(m)[key]) for m in layer.modules() for key in _KINDS if key in vars(m))
            yield _Layer(f"{name}.{place}" if name else str(place), numbers.pop(), kind, tuple(numbered))
