"""Tracing: one run of a model, what it told put together, and all of it checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves, tree_map

from explorer.tracing.assemble import assemble, find_atoms
from explorer.tracing.blocks import find_blocks, live
from explorer.tracing.caches import Context, Held, caches, following, holds_cache
from explorer.tracing.halves import find_halves
from explorer.tracing.labelling import Labelling
from explorer.tracing.recorder import Recorder
from explorer.tracing.returned import Outputs, counting
from explorer.tracing.rules.recurrent import tie_states
from explorer.tracing.sizes import sizes
from explorer.tracing.tape import tensors_in
from explorer.tracing.unlisted import unlisted
from explorer.tracing.unreached import Unreached, unreached
from explorer.tracing.verification.fixing import with_fixed
from explorer.tracing.verification.sifting import Item
from explorer.tracing.verification.verify import verified
from explorer.utils.borrowing import left_as_it_was, surroundings_as_they_were
from explorer.utils.keywords import known_keywords
from explorer.utils.modules import run, without_fused_layers, without_fused_recurrence
from spaces import Network, PruningError, first_line

__all__ = ["trace"]

log = logging.getLogger(__name__)

# classes of torch whose modules cannot be copied with other weights; imported, some cost seconds
_OPAQUE = {"OptimizedModule": "compiled", "ScriptModule": "scripted", "_StatefulGraphModule": "exported"}


@known_keywords
@torch.inference_mode(False)
def trace(
    model: nn.Module,
    example: Any,
    *,
    name: str | None = None,
    verify: bool = True,
    outputs: Outputs = None,
    more: Sequence[Any] = (),
    checked_on: Sequence[Any] = (),
    context: Context | None = None,
) -> Network:
    """Return the Network of `model`: its channel units, layers and cost polynomial.

    Parameters
    ----------
    model
        Any module. It is run in eval mode and left as it was; frozen parameters make no difference.
    example
        One input: a tensor with the batch first, a tuple of positional or a mapping of keyword arguments.
    name
        The network's name; the class's name by default.
    verify
        Check every unit by comparing the masked with the sliced network, and fix those that differ.
    outputs
        What of the model's output is used, and so can't be pruned: a key, attribute or position, several of them, or
        a function of the output such as `Task.prediction`. By default all of it, a cache of keys and values too.
    more
        Further inputs, which reach layers that `example` does not. Costs are those of `example`.
    checked_on
        Inputs to verify units on; by default `example` and `more`. Shorter ones take less time.
    context
        Of a decoder of transformers, whose memory is a cost too: ``(sequences, tokens)``, of how many sequences of how
        many tokens each it holds the keys and values. By default of one that is as long as the example's.

    Raises
    ------
    PruningError
        If the model does not run on an example, or has no such output.

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
        examples = [example, *more]
        checked = checked_on or examples if verify else ()
        return _traced(model, examples, tensors[0].size(0), name or type(model).__name__, checked, outputs, context)


def _traced(
    model: nn.Module,
    examples: Sequence[Any],
    batch: int,
    name: str,
    checked: Sequence[Any],
    outputs: Outputs,
    context: Context | None,
) -> Network:
    labelling, recorder, results, noted = _first(model, examples[0], outputs)
    graph = labelling.graph
    ran, uncounted = set(recorder.ran), dict(recorder.uncounted)
    for example in examples[1:]:
        labelling.counts = False
        another, _ = _recorded(model, example, labelling, outputs)
        ran |= another.ran
        uncounted |= another.uncounted
    tie_states(model, graph)
    graph.share_reads()
    for operator, place in uncounted.items():
        log.warning("model: if %s multiplies, as in %s, that is not counted", operator, place or "the model itself")
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
    state = {**parameters, **buffers}
    atoms = find_atoms(graph, live(recorder.tape.steps, results))
    network = assemble(name, graph, atoms, state, recorder.leaves, set(buffers), batch)
    blocks, fixed_blocks = find_blocks(recorder.tape, model, atoms.alike, results)
    halves = find_halves(recorder.tape, model, atoms.alike, results, blocks)
    idle = unreached(model, ran, {tensor for tensor, _ in graph.blocks}, examples[0])
    network = replace(
        network,
        fixed=(*network.fixed, *idle.layers, *unlisted(model, network, idle.layers)),
        sizes=sizes(model, graph, atoms),
        blocks=blocks,
        fixed_blocks=fixed_blocks,
        halves=halves,
    )
    if (held := caches(model, examples[0], noted, atoms, context)) is not None:
        network = replace(network, context=held[0], caches=held[1])
    network = _without_risk(network, idle)
    # a parameter that training alone computes with, such as what stands for masked inputs, is sliced with nothing
    touched = {tensor for step in recorder.tape.steps for tensor in step.tensors}
    training = idle.training or not touched.issuperset(parameters)
    return verified(model, network, checked, outputs, training=training) if checked else network


def _first(
    model: nn.Module, example: Any, outputs: Outputs
) -> tuple[Labelling, Recorder, list[int], Mapping[tuple[int, str], Held]]:
    """Return the labelling of the first example, what ran, what is used of what it returned, and what would be held."""
    labelling = Labelling(model)
    if holds_cache(model):
        cache, noted = following(model, labelling)
        try:
            return labelling, *_recorded(model, example, labelling, outputs, past_key_values=cache), noted
        except PruningError:
            # it may take no cache of this kind
            labelling = Labelling(model)
    return labelling, *_recorded(model, example, labelling, outputs), {}


def _recorded(
    model: nn.Module, example: Any, labelling: Labelling, outputs: Outputs, **more: Any
) -> tuple[Recorder, list[int]]:
    """Return what ran for one example, and the values that are used of what it returned."""
    recorder = Recorder(labelling)
    try:
        with left_as_it_was(model), torch.no_grad(), without_fused_layers():
            model.eval()
            # fresh tensors, so that a model that returns or changes its input does not confuse the labels
            inputs = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, example)
            labelling.label_input(inputs)
            with without_fused_recurrence(model), recorder.watching(model), recorder:
                output = run(model, inputs, **more)
                if not tensors_in(output):
                    raise TypeError(f"it returned {type(output).__name__} without a tensor")
                # what a function makes of the output is followed too
                used = tensors_in(counting(output, outputs))
        labelling.fix_output(used)
    except PruningError:
        raise
    except Exception as error:
        raise PruningError(
            f"model: forward raised {type(error).__name__} on the example input ({first_line(error)[:200]})"
        ) from error
    return recorder, [recorder.tape.value(tensor) for tensor in used]


def _without_risk(network: Network, idle: Unreached) -> Network:
    """Return the network with those units fixed that a layer which did not run could read."""
    bad: dict[Item, str] = {unit: reason for unit in network.units if (reason := idle.reads(network, unit))}
    return with_fixed(network, bad)
