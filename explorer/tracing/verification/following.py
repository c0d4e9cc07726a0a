"""Whether what a block returns follows the argument that takes its place once it is dropped."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from explorer.pruning.surgery.stand_ins import returned
from spaces import BlockUnit, Network

__all__ = ["astray"]

# the least correlation of a block's argument and output: 0.86 after a ReLU, about 0 of what has nothing in common
_FOLLOWS = 0.3


def astray(
    model: nn.Module, network: Network, blocks: Sequence[BlockUnit], runs: Callable[[nn.Module], Any]
) -> dict[BlockUnit, str]:
    """Return the blocks whose output does not follow the argument while the layers of all are silent, and why.

    `runs` runs a model.
    """
    silent, found = copy.deepcopy(model), dict[BlockUnit, str]()
    parameters = dict(silent.named_parameters())
    with torch.no_grad():
        for layer in network.layers:
            if any(block.holds(layer.weight) for block in blocks):
                for name in (layer.weight, layer.weight.removesuffix("weight") + "bias"):
                    if name in parameters:
                        parameters[name].zero_()
    for block in blocks:
        _watch(silent.get_submodule(block.name), block, found)
    runs(silent)
    return found


def _watch(module: nn.Module, block: BlockUnit, found: dict[BlockUnit, str]) -> None:
    """Note in `found` if what a block returns does not follow the argument that takes its place."""
    given: list[list[Any]] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        chosen = returned(block.returns, args, kwargs, adds=block.adds)
        given.append([arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in chosen])

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        operands = given.pop()
        for operand, result in zip(operands, (out,) if isinstance(out, torch.Tensor) else out, strict=True):
            # a mask of infinities that is passed through has no correlation
            follows = not isinstance(result, torch.Tensor) or torch.equal(operand, result)
            if not follows and (block.adds or not _correlation(operand, result) > _FOLLOWS):
                found[block] = "what it returns does not follow what it is given"

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after, with_kwargs=True)


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the correlation of the elements of two tensors, 1 where the first is constant."""
    a, b = first.double() - first.double().mean(), second.double() - second.double().mean()
    return float((a * b).sum() / (a.norm() * b.norm())) if a.any() else 1.0
