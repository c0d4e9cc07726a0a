"""Shortcuts: which channels modules without weights pass on, told by numbers of atoms in place of index tensors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from explorer.pruning.surgery import Atoms, ChannelSlice, Kept
from spaces import Network, PruningError, Recipe
from spaces.granularity import kept_steps
from spaces.network import Leaf

__all__ = ["index_names", "kept_of", "passed_on"]


def kept_of(network: Network, recipe: Recipe, known: Mapping[str, list[int]]) -> Kept:
    """Return the atoms that a recipe keeps: those known, of other units the first of every group.

    Of these only the number matters, since which they are is in the weights.

    Raises
    ------
    PruningError
        If the atoms known of a unit are no numbers of its atoms, or not as many as the recipe keeps.
    """
    kept = {}
    for name, ratio in recipe.channels:
        unit = network.unit[name]
        first = torch.arange(kept_steps(ratio, unit.steps))
        every = torch.arange(unit.groups)[:, None] * (unit.atoms // unit.groups) + first
        kept[name] = every.reshape(-1)
        if name in known:
            if sorted(set(known[name]) & set(range(unit.atoms))) != known[name] or len(known[name]) != every.numel():
                raise PruningError(f"kept: {name!r} has other atoms than the recipe keeps")
            kept[name] = torch.tensor(known[name])
    return kept


def passed_on(module: nn.Module, network: Network, recipe: Recipe) -> dict[str, list[int]]:
    """Return the atoms kept of every unit whose channels go through a `ChannelSlice` of a sub-network."""
    parts = dict(module.named_modules())
    slices = [(parts[leaf.name], leaf) for leaf in network.leaves if isinstance(parts.get(leaf.name), ChannelSlice)]
    kept, atoms = kept_of(network, recipe, {}), Atoms(network)
    counted, alive = atoms.alive(kept), atoms.alive(kept)
    alive[:] = False
    for part, leaf in slices:
        reads = atoms.labels(leaf.reads)
        # what is removed has the number of what is kept
        alive[reads] |= part.spread.cpu() < counted[reads].sum()
        writes = atoms.labels(leaf.writes)
        alive[writes[part.keep.cpu()]] = True
    units = sorted({unit for _, leaf in slices for unit in _units(leaf) & kept.keys()})
    found = {unit: alive[atoms.numbers(unit)].nonzero().squeeze(1) for unit in units}
    # of a unit that goes through in part only, they don't tell it all
    return {unit: numbers.tolist() for unit, numbers in found.items() if len(numbers) == len(kept[unit])}


def index_names(module: nn.Module, network: Network, recipe: Recipe, known: Mapping[str, list[int]]) -> set[str]:
    """Return the names of the index tensors of shortcuts that `known` atoms tell."""
    pruned = {name for name, _ in recipe.channels}
    told = {leaf.name for leaf in network.leaves if _units(leaf) & pruned <= known.keys()}
    slices = (name for name, part in module.named_modules() if isinstance(part, ChannelSlice) and name in told)
    return {f"{name}.{tensor}" for name in slices for tensor in ("spread", "keep")}


def _units(leaf: Leaf) -> frozenset[str]:
    return leaf.reads.units | leaf.writes.units
