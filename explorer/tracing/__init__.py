"""A model becomes a Network, once: traced through the operations that really ran, and verified by slicing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves, tree_map

from explorer.tracing.assemble import assemble, find_atoms
from explorer.tracing.blocks import find_blocks, live
from explorer.tracing.labelling import Labelling
from explorer.tracing.recorder import Recorder
from explorer.tracing.rules.recurrent import tie_states
from explorer.tracing.tape import tensors_in
from explorer.tracing.verification.verify import verified
from explorer.utils.borrowing import left_as_it_was, surroundings_as_they_were
from explorer.utils.modules import run, without_fused_layers, without_fused_recurrence
from spaces import FixedChannels, Network, PruningError, first_line

__all__ = ["trace"]

# classes of torch whose modules cannot be copied with other weights; imported, some cost seconds
_OPAQUE = {"OptimizedModule": "compiled", "ScriptModule": "scripted", "_StatefulGraphModule": "exported"}


@torch.inference_mode(False)
def trace(model: nn.Module, example: Any, *, name: str | None = None, verify: bool = True) -> Network:
    """Return the Network of `model`: its channel units, layers and cost polynomial.

    Parameters
    ----------
    model
        Any module. It is run once in eval mode and left as it was; frozen parameters make no difference.
    example
        One input: a tensor with the batch first, a tuple of positional or a mapping of keyword arguments.
    name
        The network's name; the class's name by default.
    verify
        Check every unit by comparing the masked with the sliced network, and fix those that differ.

    Raises
    ------
    PruningError
        If the model does not run on the example.

    Examples
    --------
    >>> network = trace(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)), torch.zeros(1, 3, 8, 8))
    >>> [(unit.name, unit.channels) for unit in network.units]  # the last layer's channels are the output
    [('0', 8)]
    """
    tensors = [leaf for leaf in tree_leaves(example) if isinstance(leaf, torch.Tensor) and leaf.dim() and leaf.numel()]
    if not tensors:
        raise PruningError("model: the example input holds no tensor with a batch dimension")
    for place, part in model.named_modules():
        for kind in type(part).__mro__:
            if made := _OPAQUE.get(kind.__name__):
                raise PruningError(f"model: {place or 'it'} is {made}, allowed is the module it was made of")
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise PruningError("model: its lazy layers have no shape yet, run it once before")
    with surroundings_as_they_were(model):
        return _traced(model, example, tensors[0].size(0), name or type(model).__name__, verify)


def _traced(model: nn.Module, example: Any, batch: int, name: str, verify: bool) -> Network:
    labelling = Labelling(model, batch)
    recorder, graph = Recorder(labelling), labelling.graph
    try:
        with left_as_it_was(model), torch.no_grad(), without_fused_layers():
            model.eval()
            # fresh tensors, so that a model that returns or changes its input does not confuse the labels
            inputs = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, example)
            labelling.label_input(inputs)
            with without_fused_recurrence(model), recorder.watching(model), recorder:
                output = run(model, inputs)
        if not tensors_in(output):
            raise TypeError(f"it returned {type(output).__name__} without a tensor")
        labelling.fix_output(output)
        tie_states(model, graph)
        results = [recorder.tape.value(tensor) for tensor in tensors_in(output)]
    except Exception as error:
        raise PruningError(
            f"model: forward raised {type(error).__name__} on the example input ({first_line(error)[:200]})"
        ) from error
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    state = {**parameters, **buffers}
    atoms = find_atoms(graph, live(recorder.tape.steps, results))
    network = assemble(name, graph, atoms, state, recorder.leaves, set(buffers))
    blocks, fixed_blocks = find_blocks(recorder.tape, model, atoms.alike, results)
    idle = _idle(model, recorder.ran, {tensor for tensor, _ in graph.blocks})
    network = replace(network, fixed=(*network.fixed, *idle), blocks=blocks, fixed_blocks=fixed_blocks)
    return verified(model, network, example, training=bool(idle)) if verify else network


def _idle(model: nn.Module, ran: set[str], used: set[str]) -> list[FixedChannels]:
    """Return the layers that did not run in eval mode, such as auxiliary heads.

    A layer whose forward is passed over may have lent its weight to another function.
    """
    found = []
    for name, module in model.named_modules():
        own = {f"{name}.{place}": weight for place, weight in module._parameters.items() if weight is not None}
        weights = [weight for weight in own.values() if weight.dim() > 1]
        if weights and name not in ran and used.isdisjoint(own):
            found.append(FixedChannels(name, weights[0].size(0), "did not run in eval mode"))
    return found
