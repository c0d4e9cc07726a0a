"""Facts of a network and its space that are known before anything is evaluated, as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from spaces import (
    Axis,
    Budget,
    Network,
    Pattern,
    PruningSpace,
    Recipe,
    costs_of,
    count_inside,
    dense_costs,
)

__all__ = ["network_facts", "prunable_share", "space_facts"]


def network_facts(network: Network) -> dict[str, Any]:
    """Return a network's costs, units, layers, products, blocks and fixed parts, as values that JSON has.

    Shares are of the dense network's: ``prunable`` is the share in tensors of which a unit owns a dimension, and
    ``least`` the share with every unit at its narrowest and no block dropped.
    """
    dense = dense_costs(network)
    narrowest = costs_of(network, Recipe.of(channels={unit.name: unit.step / unit.channels for unit in network.units}))
    total = max(1, dense["flops"])
    return {
        "network": network.name,
        "dense": dense,
        "prunable": {"flops": prunable_share(network), "params": _prunable_parameters(network)},
        "least": {name: narrowest[name] / max(1, dense[name]) for name in ("flops", "params")},
        "units": [
            {"name": unit.name, "channels": unit.channels, "step": unit.step, "writers": list(unit.writers)}
            for unit in network.units
        ],
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "weight": _lengths(network, layer.weight),
                "flops": _flops(network, layer.weight, layer.positions),
                "share": _flops(network, layer.weight, layer.positions) / total,
            }
            for layer in network.layers
        ],
        "products": [
            {
                "name": product.name,
                "flops": flops,
                "share": flops / total,
                "prunable": any(d.units for d in product.dims),
            }
            for product, flops in _product_flops(network)
        ],
        "blocks": [block.name for block in network.blocks],
        "halves": [half.name for half in network.halves],
        "fixed": [{"name": entry.name, "channels": entry.channels, "reason": entry.reason} for entry in network.fixed],
        "fixed_blocks": [{"name": block.name, "reason": block.reason} for block in network.fixed_blocks],
    }


def space_facts(space: PruningSpace, budget: Budget) -> dict[str, Any]:
    """Return a space's axes, skipped entries, its size and the number of its recipes inside a budget.

    An axis that ties several units or layers has those as ``members``, with as many choices each.

    Sizes are decimal texts, since they are beyond what most readers of JSON take for a number.
    """
    facts: dict[str, Any] = {
        "axes": [_axis(axis) for axis in space.axes],
        "skipped": [{"name": name, "reason": reason} for name, reason in space.skipped],
        "size": str(space.size),
        "inside": None,
    }
    if budget or space.constraints:
        inside = count_inside(space, np.random.default_rng(0), budget=budget)
        facts["inside"] = {"exact": inside.exact, "recipes": str(int(inside.value))} | (
            {} if inside.exact else {"low": str(int(inside.low)), "high": str(int(inside.high))}
        )
    return facts


def prunable_share(network: Network) -> float:
    """Return the share of the FLOPs in layers and products of which a unit owns a dimension."""
    parts = [
        (_flops(network, layer.weight, layer.positions), bool(network.tensor[layer.weight].units))
        for layer in network.layers
    ]
    parts += [(flops, any(dim.units for dim in product.dims)) for product, flops in _product_flops(network)]
    total = sum(flops for flops, _ in parts)
    return sum(flops for flops, owned in parts if owned) / total if total else 0.0


def _prunable_parameters(network: Network) -> float:
    sizes = [(int(np.prod([d.length for d in t.dims])), bool(t.units)) for t in network.tensors if t.parameter]
    total = sum(size for size, _ in sizes)
    return sum(size for size, owned in sizes if owned) / total if total else 0.0


def _product_flops(network: Network) -> list[tuple[Any, int]]:
    return [(p, p.flops * int(np.prod([dim.length for dim in p.dims])) // network.inputs) for p in network.products]


def _lengths(network: Network, tensor: str) -> list[int]:
    return [dim.length for dim in network.tensor[tensor].dims]


def _flops(network: Network, weight: str, positions: int) -> int:
    return positions * int(np.prod(_lengths(network, weight))) // network.inputs


def _axis(axis: Axis) -> dict[str, Any]:
    plain: dict[str, Any] = {"part": axis.part, "name": axis.name, "choices": _choices(axis)}
    if axis.members:
        plain["members"] = [{"name": one.name, "choices": _choices(one)} for one in axis.members]
    return plain


def _choices(axis: Axis) -> list[Any]:
    """Return an axis's choices: ratios, or patterns as mappings and None for a dense weight."""
    return [choice.to_dict() if isinstance(choice, Pattern) else choice for choice in axis.choices]
