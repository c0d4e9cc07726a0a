"""Exact costs of a million recipes at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from explorer.bench.cases import Case
from explorer.bench.measured import Measured
from explorer.pruning.surgery import ChannelSlice
from explorer.utils.space_section import named_space
from explorer.utils.timing import interleaved
from spaces import PruningSpace, Recipe

__all__ = ["costs"]


def costs(config: dict[str, Any]) -> list[Measured]:
    """Return how many random recipes are costed a second, and how many are equal to the counted modules.

    FLOPs, parameters and bytes are all asked for.
    """
    options = config["costs"]
    torch.manual_seed(config["seed"])
    case = Case.built_in(options["model"])
    space = case.space
    rows = space.sample(options["recipes"], np.random.default_rng(config["seed"]))
    recipes = [space.recipe(row) for row in rows[: options["counted"]]]
    found = space.costs(rows)
    equal = sum(
        {cost: int(values[i]) for cost, values in found.items()} == _counted(case.build(recipe), case.example)
        for i, recipe in enumerate(recipes)
    )

    def count(recipe: Recipe = recipes[0]) -> None:
        _counted(case.build(recipe), case.example)

    mixed = PruningSpace.from_config(space.network, named_space("mixed"))
    many = mixed.sample(options["recipes"], np.random.default_rng(config["seed"]), "axes")
    (of_mixed,) = interleaved([lambda: mixed.costs(many)], runs=config["repeats"], seconds=config["seconds"])
    ours, theirs = interleaved([lambda: space.costs(rows), count], runs=config["repeats"], seconds=config["seconds"])
    what = f"{len(rows):,} recipes of {options['model']}"
    rate = 1000 * len(rows) / ours.median
    return [
        Measured(f"{what}: a second", "", rate, "recipes/s", at_least=1e6, ours=ours),
        Measured(
            f"{what}: times faster", "building, counting 1", rate * theirs.median / 1000, ours=ours, theirs=theirs
        ),
        Measured(
            f"{len(many):,} mixed recipes: a second", "", 1000 * len(many) / of_mixed.median, "recipes/s", ours=of_mixed
        ),
        Measured("equal FLOPs, parameters, bytes", "the built modules", equal, f"of {len(recipes)}", len(recipes)),
    ]


def _counted(module: nn.Module, example: Tensor) -> dict[str, int]:
    """Return the costs of a module by running it; torch counts a multiply-add as two."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example)
    # surgery's own index maps are not the network's
    maps = {id(t) for part in module.modules() if isinstance(part, ChannelSlice) for t in (part.spread, part.keep)}
    tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if id(tensor) not in maps]
    return {
        "flops": counter.get_total_flops() // 2,
        "params": sum(parameter.numel() for parameter in module.parameters()),
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
    }
