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
class _Numbered:
    name: str
    number: int
    kind: tuple[str, ...]
    module: nn.Module


class LayerNumbers:
    """The numbered modules of a model's layers.

    Models ask the cache's first place of each kind how many tokens it holds. So what stays takes the first places of
    its kind, where others are left out.

    Parameters
    ----------
    model
        The dense model.
    """

    def __init__(self, model: nn.Module) -> None:
        # attention to the own tokens and to an encoder's have caches of their own
        roles: dict[tuple[str, str], list[_Numbered]] = {}
        known: set[int] = set()
        for name, part in model.named_modules():
            if isinstance(part, nn.ModuleList):
                # of lists inside each other the outer one has the layers
                found = [entry for entry in _numbered(name, part) if id(entry[2].module) not in known]
                known |= {id(numbered.module) for _, _, numbered in found}
                for place, inner, numbered in found:
                    roles.setdefault((place, inner), []).append(numbered)
        self._roles = [role for role in roles.values() if len({entry.number for entry in role}) == len(role)]

    def give(self, replaced: Mapping[int, Any], dropped: Collection[str]) -> None:
        """Number what stays in a sub-network anew.

        Parameters
        ----------
        replaced
            The sub-network's module by the id of the dense network's.
        dropped
            Names of the blocks that are left out.
        """
        inside = tuple(f"{name}." for name in dropped)
        for role in self._roles:
            free: dict[tuple[str, ...], list[int]] = {}
            for entry in role:
                free.setdefault(entry.kind, []).append(entry.number)
            for entry in role:
                if not f"{entry.name}.".startswith(inside):
                    number = free[entry.kind].pop(0)
                    if (small := replaced.get(id(entry.module))) is not None:
                        vars(small)[_NUMBER] = number


def _numbered(name: str, part: nn.ModuleList) -> Iterator[tuple[str, str, _Numbered]]:
    """Yield the list, the name inside its layer, and what else is known of every module that has a number."""
    for place, layer in enumerate(part):
        kind = tuple(str(vars(m)[key]) for m in layer.modules() for key in _KINDS if key in vars(m))
        for inner, module in layer.named_modules(prefix=f"{name}.{place}"):
            number = vars(module).get(_NUMBER)
            if type(number) is int:
                yield name, inner.removeprefix(f"{name}.{place}"), _Numbered(inner, number, kind, module)
