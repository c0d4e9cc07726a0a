"""Costs of any module, whoever made it, by our own cost model: sliced channels and zeros are not counted."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from explorer.pruning.patterns import Masks, gemm_of, realised_costs
from explorer.pruning.patterns.masks import Mask
from explorer.pruning.surgery.skeleton import copied
from explorer.tracing import trace
from explorer.utils.modules import tensors_of
from spaces import Network, Pattern, Recipe

__all__ = ["counted", "flops_of", "multiply_adds", "plain"]


def counted(module: nn.Module, example: Any) -> tuple[Network, Masks, dict[str, float]]:
    """Return a module's network, the masks of the weights that are exactly zero, and its FLOPs and parameters.

    Parameters
    ----------
    module
        In eval mode.
    example
        One input.
    """
    network = trace(module, example, name=type(module).__name__, verify=False)
    tensors, masks = tensors_of(module), {}
    for layer in network.layers:
        keep = gemm_of(network, layer, tensors[layer.weight].detach() != 0)
        share = int(keep.count_nonzero()) / keep.numel()
        if 0 < share < 1:
            masks[layer.name] = Pattern("element", share), Mask(keep)
    costs = realised_costs(network, Recipe.of({}), masks)
    return network, masks, {metric: costs[f"{metric}_realised"] for metric in ("flops", "params")}


def flops_of(module: nn.Module, example: Any) -> float:
    """Return the multiply-adds of one input."""
    return counted(module, example)[2]["flops"]


def multiply_adds(model: nn.Module, example: Tensor) -> int:
    """Return the multiply-adds of one input in convolutions and linear layers, counted by hooks on a forward pass.

    That is faster than `flops_of`, of dense weights only, and right where linear layers read one vector an input.
    """
    total = 0

    def count(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal total
        places = output[0, 0].numel() if isinstance(layer, nn.Conv2d) else 1
        total += layer.get_parameter("weight").numel() * places

    hooks = [part.register_forward_hook(count) for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model(example)
    for hook in hooks:
        hook.remove()
    return total


def plain(model: nn.Module) -> nn.Module:
    """Return a copy of a model in torch's usual memory layout, which is the only one that other tools take."""
    return copied(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
