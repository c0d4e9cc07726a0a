"""Patterns on the weights of a module: masks made, put on, held while it trains, and counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from explorer.pruning.patterns.masks import Mask, gemm_view, pattern_mask, tiles, weight_view
from explorer.pruning.surgery import Kept, Surgeon
from explorer.utils.modules import tensors_of
from spaces import Gemm, Layer, Matrices, Network, Pattern, PruningError, Recipe, costs_of
from spaces.gemm import best_encoding

__all__ = ["Masks", "check_same", "gemm_of", "make_masks", "put_on", "realised_costs", "weight_of"]

Masks = Mapping[str, tuple[Pattern, Mask]]
"""The pattern and the mask of every layer that has one, by layer."""


def make_masks(surgeon: Surgeon, recipe: Recipe, kept: Kept, scores: Mapping[str, Tensor]) -> Masks:
    """Return the masks of a recipe's patterns on what slicing leaves of the weights.

    Parameters
    ----------
    surgeon
        Of the dense network.
    recipe
        Whose patterns are wanted.
    kept
        The channels that slicing keeps.
    scores
        Of the dense weights: `explorer.pruning.criteria.Scores.weights`.

    Raises
    ------
    PruningError
        If a layer cannot have its pattern, or its weight has no scores.
    """
    if not recipe.weights:
        return {}
    network = surgeon.network
    patterns = recipe.canonical(network).weights
    if not patterns:
        return {}
    names = {name: network.layer[name].weight for name, _ in patterns}
    if missing := [name for name, weight in names.items() if weight not in scores]:
        raise PruningError(f"criterion: it scores channels only, and a pattern is asked for {missing[0]}")
    sliced = surgeon.sliced({weight: scores[weight] for weight in names.values()}, kept)
    masks = {}
    for name, pattern in patterns:
        layer, small = network.layer[name], sliced[names[name]]
        masks[name] = pattern, pattern_mask(gemm_of(network, layer, small), pattern, Gemm.of(network, layer).kernel)
    return masks


def put_on(module: nn.Module, network: Network, masks: Masks) -> None:
    """Set the weights that masks remove to zero, and let no gradient move them.

    With a gradient of zero they stay zero under SGD and Adam, with momentum and weight decay. A deep copy of a module
    loses the hooks that do it: put the masks on again.
    """
    for name, (_, mask) in masks.items():
        weight = module.get_parameter(network.layer[name].weight)
        keep = weight_of(network, network.layer[name], mask.keep, weight)
        with torch.no_grad():
            weight.mul_(keep)
        # only what requires a gradient takes a hook, and a frozen weight may be trained later
        frozen = not weight.requires_grad
        weight.requires_grad_(True)
        weight.register_hook(lambda gradient, keep=keep: gradient * keep)
        weight.requires_grad_(not frozen)


def check_same(module: nn.Module, built: nn.Module, network: Network, masks: Masks) -> None:
    """Check that a module is a sub-network like another: of its class, with tensors of its shapes and zeros of masks.

    Raises
    ------
    PruningError
        If it is not; the message names the first difference.
    """
    own, theirs = ({name: list(tensor.shape) for name, tensor in tensors_of(part).items()} for part in (module, built))
    if type(module) is not type(built) or own != theirs:
        name = next((name for name in {**theirs, **own} if own.get(name) != theirs.get(name)), None)
        found = type(module).__name__ if name is None else f"{name} {own.get(name, 'missing')}"
        wanted = type(built).__name__ if name is None else theirs.get(name, "nothing")
        raise PruningError(f"module: it is no module of this recipe, it has {found}, needed is {wanted}")
    for name, (_, mask) in masks.items():
        layer = network.layer[name]
        weight = module.get_parameter(layer.weight)
        if bool((weight.detach().cpu() * ~weight_of(network, layer, mask.keep, weight).cpu()).count_nonzero()):
            raise PruningError(
                f"module: {layer.weight} has other weights than 0 where the recipe's pattern removes them"
            )


def gemm_of(network: Network, layer: Layer, value: Tensor) -> Tensor:
    """Return a (sliced) weight of a layer, or anything of its shape, as GEMM matrices ``[groups, K, N]``."""
    return gemm_view(value, layer.kind, _groups(network, layer, value), inputs_first=_inputs_first(network, layer))


def realised_costs(network: Network, recipe: Recipe, masks: Masks) -> dict[str, float]:
    """Return what the masks made of a recipe's nominal costs.

    Returns
    -------
    dict
        ``flops_realised``, ``params_realised``, ``bytes_realised`` and, where it is a cost, ``memory_realised``, of
        which the nominal costs differ where blocks or tiles differ in size, and ``stored_params``: values in the files
        that export writes.
    """
    sliced = costs_of(network, replace(recipe, weights=()))
    flops, params, stored, size = sliced["flops"], sliced["params"], sliced["params"], sliced["bytes"]
    removed = 0
    for name, (pattern, mask) in masks.items():
        layer = network.layer[name]
        itemsize = network.tensor[layer.weight].itemsize
        groups, rows, columns = mask.keep.shape
        sizes = Matrices(rows, groups * columns, groups, Gemm.of(network, layer).kernel)
        kept, entries = int(mask.keep.count_nonzero()), mask.keep.numel()
        count = tile_count(pattern, mask)
        written, encoding = best_encoding(pattern, sizes, kept, itemsize, tiles=count)
        removed += layer.positions * (entries - kept)
        params -= entries - kept
        stored -= 0 if encoding == "dense" else entries - kept
        size -= entries * itemsize - int(written)
    held = {"memory_realised": sliced["memory"] - sliced["bytes"] + size} if "memory" in sliced else {}
    return {
        "flops_realised": flops - removed // network.inputs,
        "params_realised": params,
        "bytes_realised": size,
        **held,
        "stored_params": stored,
    }


def tile_count(pattern: Pattern, mask: Mask) -> int | None:
    """Return how many tiles a mask of the tile family has; None for other granularities."""
    if pattern.granularity not in ("tile", "tile_vector"):
        return None
    base = mask.keep if mask.base is None else mask.base
    return sum(len(tiles(group, pattern.width)) for group in base)


def weight_of(network: Network, layer: Layer, gemm: Tensor, weight: Tensor) -> Tensor:
    """Return GEMM matrices in the shape of a (sliced) weight of a layer: the inverse of `gemm_of`."""
    groups = _groups(network, layer, weight)
    return weight_view(gemm, weight.shape, layer.kind, groups, inputs_first=_inputs_first(network, layer))


def _groups(network: Network, layer: Layer, weight: Tensor) -> int:
    """Return the groups of a sliced weight: a depthwise convolution loses some with its channels."""
    gemm = Gemm.of(network, layer)
    if not gemm.depthwise:
        return layer.groups
    return layer.groups * prod(weight.shape[:2]) // prod(gemm.lengths[:2])


def _inputs_first(network: Network, layer: Layer) -> bool:
    return layer.kind == "linear" and Gemm.of(network, layer).reads == 0
