"""Layers with a weight that no rule made a writer of channels: named, so that none vanishes."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from explorer.tracing.assemble import layer_name
from spaces import FixedChannels, Network

__all__ = ["unlisted"]

_COMPUTED = (
    "its weight is computed by a parametrization that can't be followed; remove it before "
    "(torch.nn.utils.parametrize.remove_parametrizations)"
)
_UNFOLLOWED = "its weight is computed with in a way that the tracer cannot follow"
_KINDS = (nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag, nn.modules.conv._ConvNd)


def unlisted(model: nn.Module, network: Network, idle: Iterable[FixedChannels]) -> list[FixedChannels]:
    """Return the layers of which nothing leaves, and that neither a unit nor what is fixed or did not run names.

    Parameters
    ----------
    model
        The model.
    network
        What tracing found.
    idle
        The layers that did not run.
    """
    known = {entry.name for entry in (*network.fixed, *idle)} | {w for unit in network.units for w in unit.writers}
    # a depthwise weight that code computes with leaves with the channels that it scales
    known |= {layer_name(tensor.name) for tensor in network.tensors if tensor.units}
    names = {id(tensor): name for name, tensor in model.named_parameters()}
    found = []
    for name, module in model.named_modules():
        parametrised = "weight" in getattr(module, "parametrizations", {})
        if not isinstance(module, _KINDS) or not name:
            continue
        table = module.get_submodule("parametrizations.weight") if parametrised else module
        weights = [weight for weight in table.parameters(recurse=False) if weight.dim() > 1]
        if not weights or known & {name, *(layer_name(names[id(weight)]) for weight in weights)}:
            continue
        computed = parametrised or not hasattr(module, "weight") or not isinstance(module.weight, nn.Parameter)
        found.append(FixedChannels(name, weights[0].size(0), _COMPUTED if computed else _UNFOLLOWED))
    return found
