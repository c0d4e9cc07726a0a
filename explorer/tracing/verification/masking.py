"""The masked network: the dense one, made to compute what a sliced one does, at the dense cost."""

from __future__ import annotations

import copy
from collections.abc import Collection
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.pruning.surgery.atoms import Atoms, Kept
from explorer.pruning.surgery.stand_ins import returned, swapped
from explorer.tracing.verification.kept_only import KeptOnly, Part
from spaces import BlockUnit, Network

__all__ = ["masked"]


def masked(model: nn.Module, network: Network, kept: Kept, dropped: Collection[str] = ()) -> nn.Module:
    """Return a copy of the dense model in which every reader of a removed channel sees zero.

    Norms, softmaxes, means and the like over channels run over the kept ones only. A dropped block runs, and what
    it returns is overwritten with what it was given. So the copy computes what the sliced network computes, at the
    dense cost; it is made to be run, not to be trained: it shares the parameters that nothing is masked in.
    """
    read = {tensor.name for tensor in network.tensors if any(d.reads and d.units & kept.keys() for d in tensor.dims)}
    shared = {id(parameter): parameter for name, parameter in model.named_parameters() if name not in read}
    masked_model = copy.deepcopy(model, shared)
    atoms = Atoms(network)
    alive = atoms.alive(kept)
    parts = _parts(network, atoms, alive)
    if parts:
        KeptOnly(parts).watch(masked_model)
    tensors = {**dict(masked_model.named_parameters()), **dict(masked_model.named_buffers())}
    with torch.no_grad():
        for tensor in network.tensors:
            for axis, dim in enumerate(tensor.dims):
                if dim.reads and dim.units & kept.keys():
                    mask = alive[atoms.labels(dim)]
                    value = tensors[tensor.name]
                    if dim.groups > 1:
                        per_row = mask.reshape(dim.groups, -1).repeat_interleave(value.size(0) // dim.groups, 0)
                        value *= per_row.reshape(*per_row.shape, *[1] * (value.dim() - 2)).to(value)
                    else:
                        value.index_fill_(axis, (~mask).nonzero().squeeze(1).to(value.device), 0)
    _mask_inputs(masked_model, network, atoms, alive)
    for leaf in network.leaves:
        removed = (~alive[atoms.labels(leaf.reads)]).nonzero().squeeze(1)
        if len(removed):
            masked_model = swapped(
                masked_model, leaf.name, _ChannelMask(masked_model.get_submodule(leaf.name), removed)
            )
    for module in masked_model.modules() if dropped or parts else ():
        if isinstance(module, nn.TransformerEncoder):
            # nested tensors are for a kernel that torch does not use beside hooks
            module.use_nested_tensor = False
    for name in dropped:
        _overwrite(masked_model.get_submodule(name), network.block[name])
    return masked_model


def _mask_inputs(model: nn.Module, network: Network, atoms: Atoms, alive: Tensor) -> None:
    """Hook layers of a user's class, which may compute a weight that is not zero where their parameter is."""
    modules: dict[str, Any] = dict(model.named_modules())
    for layer in network.layers:
        module = modules.get(layer.name)
        if module is None:
            continue
        convolves = isinstance(module, nn.modules.conv._ConvNd)
        known = type(module).__module__ == "torch.nn.modules.conv" or type(module) is nn.Linear
        if known or not (convolves or isinstance(module, nn.Linear)):
            continue
        dim = network.tensor[layer.weight].dims[0 if layer.kind == "conv_transposed" else 1]
        mask = alive[atoms.labels(dim)]
        if layer.groups > 1 and dim.groups == 1 and layer.kind == "conv":
            # the same inputs of every group
            mask = mask.repeat(layer.groups)
        removed = (~mask).nonzero().squeeze(1)
        if dim.reads and len(removed):
            axis = 1 - len(network.tensor[layer.weight].dims) if convolves else -1
            module.register_forward_pre_hook(partial(_emptied, axis, removed))


def _emptied(axis: int, removed: Tensor, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (args[0].index_fill(axis, removed.to(args[0].device), 0), *args[1:])


def _parts(network: Network, atoms: Atoms, alive: Tensor) -> dict[tuple[str, str, int], Part]:
    """Return what is kept of the channels that the model computes with as a whole, where not all are."""
    found = {}
    for entry in network.reductions:
        mask = alive[atoms.labels(entry.dim)]
        if not bool(mask.all()):
            part = Part(entry.axis, mask.nonzero().squeeze(1), entry.dim.length, entry.divisor)
            found[entry.module, entry.operator, entry.number] = part
    return found


def _overwrite(module: nn.Module, block: BlockUnit) -> None:
    """Hook a module so that it returns, wherever it returns a tensor, a copy of the argument that a skip returns."""
    given: list[list[Any]] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # copied before the block can write to it
        chosen = returned(block.returns, args, kwargs, adds=block.adds)
        given.append([arg.clone() if isinstance(arg, Tensor) else arg for arg in chosen])

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        operands = given.pop()
        if isinstance(out, Tensor):
            return operands[0]
        return type(out)(new if isinstance(old, Tensor) else old for new, old in zip(operands, out, strict=True))

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after, with_kwargs=True)


class _ChannelMask(nn.Module):
    def __init__(self, leaf: nn.Module, removed: Tensor) -> None:
        super().__init__()
        self.leaf = leaf
        self.removed: Tensor
        self.register_buffer("removed", removed, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.leaf(x.index_fill(1, self.removed, 0))
