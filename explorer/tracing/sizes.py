"""Attributes in which modules keep the lengths that their code gives to splits, slices and views."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import nn

from explorer.tracing.assemble import Atoms, dim_of
from explorer.tracing.graph import Graph, Length
from spaces import Size

__all__ = ["sizes"]


def sizes(model: nn.Module, graph: Graph, atoms: Atoms) -> tuple[Size, ...]:
    """Return the attributes whose values are lengths of channels that can be pruned, under any name.

    They are looked for in the module whose code gave the length; torch's own modules are known. Whether the code
    needs them is told by the check.
    """
    modules = dict(model.named_modules())
    found: dict[tuple[str, str, int | None], Size] = {}
    for length in graph.lengths:
        module = modules[length.module]
        if type(module).__module__.startswith("torch.") or len(length.nodes) < 2:
            continue
        places = list(_places(module, length))
        pruned = length.nodes[atoms.unit[length.nodes] >= 0]
        # of one atom, such as a head, all or nothing stays
        if not places or len(np.unique(atoms.atom[pruned])) < 2:
            continue
        dim = dim_of(length.nodes, atoms)
        for attribute, place in places:
            found.setdefault((length.module, attribute, place), Size(length.module, attribute, place, dim))
    return tuple(found.values())


def _places(module: nn.Module, length: Length) -> Iterator[tuple[str, int | None]]:
    """Yield where a module keeps a length: the attribute, and the place in a tuple or list of one number a piece."""
    count = len(length.nodes)
    for attribute, value in vars(module).items():
        if type(value) is int and value == count:
            yield attribute, None
        elif _is_numbers(value) and len(value) == length.pieces and value[length.place] == count:
            yield attribute, length.place


def _is_numbers(value: Any) -> bool:
    return type(value) in (tuple, list) and all(type(part) is int for part in value)
