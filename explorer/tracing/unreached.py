"""Layers that no example reached: named, and what they could read is kept as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from explorer.pruning.surgery.skeleton import copied
from explorer.utils.modules import run
from spaces import ChannelUnit, FixedChannels, Network

__all__ = ["Unreached", "unreached"]

_IN_TRAINING, _NEVER = "did not run in eval mode", "was not reached by the example input"


@dataclass(frozen=True)
class Unreached:
    """Layers that did not run, with the reason; `training` tells whether some run in training mode.

    `widths` are, of layers that run in no mode, the lengths of the dimensions of their tensors.
    """

    layers: tuple[FixedChannels, ...]
    training: bool
    widths: Mapping[str, frozenset[int]]

    def reads(self, network: Network, unit: ChannelUnit) -> str:
        """Return why a unit could be read by one of the layers, or nothing.

        Any layer could that is as wide as a tensor with channels of the unit: where it runs, its input is one that no
        example showed.
        """
        lengths = {
            dim.length * dim.groups for tensor in network.tensors for dim in tensor.dims if unit.name in dim.units
        }
        for layer, widths in self.widths.items():
            if lengths & widths:
                return f"could be read by {layer}, which no example input reached; further ones may"
        return ""


def unreached(model: nn.Module, ran: set[str], used: set[str], example: Any) -> Unreached:
    """Return the layers that did not run.

    A layer whose forward is passed over may have lent its weight to another function.

    Parameters
    ----------
    model
        The model.
    ran
        Names of the modules that ran.
    used
        Names of the tensors that were computed with.
    example
        One input, for a run in training mode.
    """
    idle: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        own = {f"{name}.{place}": weight for place, weight in module._parameters.items() if weight is not None}
        if own and name not in ran and used.isdisjoint(own):
            idle[name] = list(own.values())
    if not idle:
        return Unreached((), False, {})
    trained = _ran_in_training(model, example)
    found = []
    for name, weights in idle.items():
        wide = [weight for weight in weights if weight.dim() > 1]
        if wide:
            found.append(FixedChannels(name, wide[0].size(0), _IN_TRAINING if name in trained else _NEVER))
    widths = {
        name: frozenset(length for weight in weights for length in weight.shape[:2] if length > 1)
        for name, weights in idle.items()
        if name not in trained
    }
    return Unreached(tuple(found), not trained.isdisjoint(idle), widths)


def _ran_in_training(model: nn.Module, example: Any) -> set[str]:
    """Return the modules that run in training mode, at least those before one that raises."""
    ran: set[str] = set()
    try:
        twin = copied(model).train()
        for name, module in twin.named_modules():
            module.register_forward_pre_hook(partial(_note, ran, name))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            run(twin, torch.utils._pytree.tree_map(_own, example))
    except Exception:
        # a batch of one that a norm refuses, say
        pass
    return ran


def _own(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, torch.Tensor) else leaf


def _note(ran: set[str], name: str, *_: Any) -> None:
    ran.add(name)
