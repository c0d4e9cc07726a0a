"""Layer lists: the layers of a sub-network, numbered without those that are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from explorer.pruning.surgery.stand_ins import Skip
from spaces import PruningError

__all__ = ["LayerLists"]


@dataclass(frozen=True)
class LayerLists:
    """The lists of layers some of which are left out.

    Attributes
    ----------
    left
        By list the places of the layers that stay.
    counts
        By list how many layers the dense network has.
    """

    left: Mapping[str, list[int]]
    counts: Mapping[str, int]

    @classmethod
    def of(cls, module: nn.Module) -> LayerLists:
        """Return those of a sub-network.

        Raises
        ------
        PruningError
            If a block is left out and the layer that it is a part of is not.
        """
        left, counts = {}, {}
        for name, part in module.named_modules():
            stay = [i for i, layer in enumerate(part) if not _gone(layer)] if isinstance(part, nn.ModuleList) else []
            if isinstance(part, nn.ModuleList) and len(stay) < len(part):
                left[name], counts[name] = stay, len(part)
        found = cls(left, counts)
        for name, part in module.named_modules():
            if isinstance(part, Skip) and found.name(name) is not None:
                raise PruningError(
                    f"hf: {name} alone is left out, and a configuration can say that of whole layers only"
                )
        return found

    def name(self, name: str) -> str | None:
        """Return what a module or tensor is called where only the layers that stay are numbered; None of another."""
        steps = name.split(".")
        for depth, step in enumerate(steps[1:], 1):
            # by the names that they have in the sub-network
            stay = self.left.get(".".join(name.split(".")[:depth]))
            if stay is not None:
                if int(step) not in stay:
                    return None
                steps[depth] = str(stay.index(int(step)))
        return ".".join(steps)


def _gone(layer: nn.Module) -> bool:
    """Tell whether all of a layer that has parameters is left out."""
    return next(layer.parameters(), None) is None and any(isinstance(part, Skip) for part in layer.modules())
