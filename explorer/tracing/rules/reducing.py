"""Rules of what runs over channels as a whole: norms, softmaxes, means.

Channels along one dimension may be pruned: the operation then runs over the kept ones, see
`explorer.tracing.reductions`. Groups of channels, such as heads, leave as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call
from explorer.tracing.graph import NONE, varying
from explorer.tracing.labelling import Labelling
from explorer.tracing.rules.unknown import unknown
from explorer.tracing.rules.weights import reduced_parameter

__all__ = ["along", "averages", "group_norm", "layer_norm", "reduction", "search"]

# reductions whose second result, if there is one, numbers the entries that the first one holds
_PLACING = frozenset(["max", "median", "min", "nanmedian"])


def layer_norm(labelling: Labelling, call: Call) -> None:
    """Tie weight and bias to the channels they scale; the statistics run over what is kept of them."""
    source, out = call["input"], next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    first = source.dim() - len(call["normalized_shape"])
    labels = labelling.labels(source)
    _over(labelling, call, labels, range(first, source.dim()), f"normalised over several dimensions{labelling.where()}")
    for dim in varying(labels):
        if dim >= first and len(varying(labels)) == 1:
            _scale(labelling, call, dim - first, labels.reshape(-1))
    labelling.set(out, labels)


def group_norm(labelling: Labelling, call: Call) -> None:
    """Tie weight and bias to their channels, of which every group keeps equally many."""
    source, groups = call["input"], call["group"]
    labels = labelling.channel_labels(source, 1)
    affine = call["weight"] is not None and labelling.is_parameter(call["weight"])
    # a group of one channel is that channel's own, and there are as many groups as weights
    if (groups < source.size(1) or not affine) and bool((labels != labels[0]).any()):
        labelling.graph.balance(labels, groups)
        labelling.reduces(call, 1, labels)
    _scale(labelling, call, 0, labels)
    labelling.set(call.out[0], labels.reshape([1, -1] + [1] * (source.dim() - 2)))


def _scale(labelling: Labelling, call: Call, dim: int, labels: Tensor) -> None:
    """Tie dimension `dim` of a norm's weight and bias to the channels."""
    for argument in call.func._schema.arguments:
        tensor = call[argument.name] if argument.name in ("weight", "bias") else None
        if tensor is None:
            continue
        if labelling.is_parameter(tensor):
            labelling.graph.tie(labelling.parameter_nodes(tensor, dim), labels)
        else:
            labelling.graph.tie(labelling.channel_labels(tensor, dim), labels)


def reduction(labelling: Labelling, call: Call) -> None:
    """Keep the labels of the dimensions that stay; over channels it runs over what is kept of them."""
    source, outs = call["self"], [leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor)]
    dims = _dims(call)
    if labelling.is_parameter(source):
        if not reduced_parameter(labelling, call, dims):
            unknown(labelling, call)
        return
    labels = labelling.labels(source)
    reduced = _over(labelling, call, labels, dims, f"reduced over several dimensions by {call.name}{labelling.where()}")
    for dim in sorted((dim % source.dim() for dim in dims), reverse=True):
        labels = labels.narrow(dim, 0, 1) if outs[0].dim() == source.dim() else labels.select(dim, 0)
    for out in outs:
        labelling.set(out, torch.full_like(labels, NONE) if reduced else labels)
    if reduced and call.name in _PLACING:
        labelling.places.update((out, (labelling.labels(source), _searched(labelling, call))) for out in outs[1:])
    if reduced and call.name == "sum":
        labelling.sums[outs[0]] = (labelling.graph.reductions[-1], source.numel() // outs[0].numel())


def averages(labelling: Labelling, call: Call) -> None:
    """Note that the sum over channels that goes in is made a mean or a variance, by a number that counts them all.

    Code that asks for the number of channels and code that knows it look alike here, not so once some are gone.
    """
    name = call.name.removesuffix("_")
    sums = (
        [labelling.sums[tensor] for tensor in call.tensors if tensor in labelling.sums]
        if name in ("div", "mul")
        else []
    )
    for value in call.args if sums else ():
        number = value.item() if isinstance(value, Tensor) and value.dim() == 0 else value
        if not isinstance(number, int | float) or number == 0:
            continue
        number = 1 / number if name == "mul" else number
        for found, count in sums:
            for divisor in (0, 1):
                if found.divisor is None and count > divisor and math.isclose(number, count - divisor, rel_tol=1e-6):
                    found.divisor = divisor


def search(labelling: Labelling, call: Call) -> None:
    """Keep the labels of the dimensions that stay; channels whose place is asked for are fixed."""
    source, labels = call["self"], labelling.labels(call["self"])
    dims = _dims(call)
    labelling.join(labels, dims, _searched(labelling, call))
    for dim in sorted((dim % source.dim() for dim in dims), reverse=True):
        labels = labels.narrow(dim, 0, 1) if call.out.dim() == source.dim() else labels.select(dim, 0)
    labelling.set(call.out, labels)


def _searched(labelling: Labelling, call: Call) -> str:
    return f"reduced over channels by {call.name}{labelling.where()}"


def along(labelling: Labelling, call: Call) -> None:
    """Keep the labels of an operation along one dimension (softmax, cumsum); it runs over what is kept of it."""
    if labelling.is_parameter(call["self"]):
        unknown(labelling, call)
        return
    labels = labelling.labels(call["self"])
    _over(labelling, call, labels, _dims(call), f"{call.name} runs over several dimensions{labelling.where()}")
    labelling.set(call.out, labels)


def _dims(call: Call) -> list[int]:
    """Return the dimensions that are reduced, all where none is named."""
    known = {argument.name for argument in call.func._schema.arguments}
    dims: Any = call["dim"] if "dim" in known else None
    if dims in (None, []) or not call["self"].dim():
        return list(range(call["self"].dim()))
    return [dims] if isinstance(dims, int) else list(dims)


def _over(labelling: Labelling, call: Call, labels: Tensor, dims: Iterable[int], reason: str) -> bool:
    """Record that an operation runs over channels as a whole; tell whether none of them are left in its result."""
    over = varying(labels, dims)
    if len(over) == 1 and len(varying(labels)) == 1:
        labelling.reduces(call, over[0], labels.reshape(-1))
        return True
    labelling.join(labels, over, reason)
    return False
