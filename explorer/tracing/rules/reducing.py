"""Rules of what runs over channels as a whole: norms, softmaxes, means.

Channels along one dimension may be pruned: the operation then runs over the kept ones, see
`explorer.tracing.reductions`. Groups of channels, such as heads, leave as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.graph import NONE, varying
from explorer.tracing.rules.calls import Call, unknown

if TYPE_CHECKING:
    from explorer.tracing.recorder import Recorder

__all__ = ["along", "averages", "group_norm", "layer_norm", "reduction", "search"]

# reductions whose second result, if there is one, numbers the entries that the first one holds
_PLACING = frozenset(["max", "median", "min", "nanmedian"])


def layer_norm(rec: Recorder, call: Call) -> None:
    """Tie weight and bias to the channels they scale; the statistics run over what is kept of them."""
    source, out = call["input"], next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    first = source.dim() - len(call["normalized_shape"])
    labels = rec.labels(source)
    _over(rec, call, labels, range(first, source.dim()), f"normalised over several dimensions{rec.where()}")
    for dim in varying(labels):
        if dim >= first and len(varying(labels)) == 1:
            _scale(rec, call, dim - first, labels.reshape(-1))
    rec.set(out, labels)


def group_norm(rec: Recorder, call: Call) -> None:
    """Tie weight and bias to their channels, of which every group keeps equally many."""
    source, groups = call["input"], call["group"]
    labels = rec.channel_labels(source, 1)
    affine = call["weight"] is not None and rec.is_parameter(call["weight"])
    # a group of one channel is that channel's own, and there are as many groups as weights
    if (groups < source.size(1) or not affine) and bool((labels != labels[0]).any()):
        rec.graph.balance(labels, groups)
        rec.reduces(call, 1, labels)
    _scale(rec, call, 0, labels)
    rec.set(call.out[0], labels.reshape([1, -1] + [1] * (source.dim() - 2)))


def _scale(rec: Recorder, call: Call, dim: int, labels: Tensor) -> None:
    """Tie dimension `dim` of a norm's weight and bias to the channels."""
    for argument in call.func._schema.arguments:
        tensor = call[argument.name] if argument.name in ("weight", "bias") else None
        if tensor is None:
            continue
        if rec.is_parameter(tensor):
            rec.graph.tie(rec.parameter_nodes(tensor, dim), labels)
        else:
            rec.graph.tie(rec.channel_labels(tensor, dim), labels)


def reduction(rec: Recorder, call: Call) -> None:
    """Keep the labels of the dimensions that stay; over channels it runs over what is kept of them."""
    source, outs = call["self"], [leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor)]
    if rec.is_parameter(source):
        unknown(rec, call)
        return
    dims = _dims(call)
    labels = rec.labels(source)
    reduced = _over(rec, call, labels, dims, f"reduced over several dimensions by {call.name}{rec.where()}")
    for dim in sorted((dim % source.dim() for dim in dims), reverse=True):
        labels = labels.narrow(dim, 0, 1) if outs[0].dim() == source.dim() else labels.select(dim, 0)
    for out in outs:
        rec.set(out, torch.full_like(labels, NONE) if reduced else labels)
    if reduced and call.name in _PLACING:
        rec.places.update((out, (rec.labels(source), _searched(rec, call))) for out in outs[1:])
    if reduced and call.name == "sum":
        rec.sums[outs[0]] = (rec.graph.reductions[-1], source.numel() // outs[0].numel())


def averages(rec: Recorder, call: Call) -> None:
    """Note that the sum over channels that goes in is made a mean or a variance, by a number that counts them all.

    Code that asks for the number of channels and code that knows it look alike here, not so once some are gone.
    """
    name = call.name.removesuffix("_")
    sums = [rec.sums[tensor] for tensor in call.tensors if tensor in rec.sums] if name in ("div", "mul") else []
    for value in call.args if sums else ():
        number = value.item() if isinstance(value, Tensor) and value.dim() == 0 else value
        if not isinstance(number, int | float) or number == 0:
            continue
        number = 1 / number if name == "mul" else number
        for found, count in sums:
            for divisor in (0, 1):
                if found.divisor is None and count > divisor and math.isclose(number, count - divisor, rel_tol=1e-6):
                    found.divisor = divisor


def search(rec: Recorder, call: Call) -> None:
    """Keep the labels of the dimensions that stay; channels whose place is asked for are fixed."""
    source, labels = call["self"], rec.labels(call["self"])
    dims = _dims(call)
    rec.join(labels, dims, _searched(rec, call))
    for dim in sorted((dim % source.dim() for dim in dims), reverse=True):
        labels = labels.narrow(dim, 0, 1) if call.out.dim() == source.dim() else labels.select(dim, 0)
    rec.set(call.out, labels)


def _searched(rec: Recorder, call: Call) -> str:
    return f"reduced over channels by {call.name}{rec.where()}"


def along(rec: Recorder, call: Call) -> None:
    """Keep the labels of an operation along one dimension (softmax, cumsum); it runs over what is kept of it."""
    if rec.is_parameter(call["self"]):
        unknown(rec, call)
        return
    labels = rec.labels(call["self"])
    _over(rec, call, labels, _dims(call), f"{call.name} runs over several dimensions{rec.where()}")
    rec.set(call.out, labels)


def _dims(call: Call) -> list[int]:
    """Return the dimensions that are reduced, all where none is named."""
    known = {argument.name for argument in call.func._schema.arguments}
    dims: Any = call["dim"] if "dim" in known else None
    if dims in (None, []) or not call["self"].dim():
        return list(range(call["self"].dim()))
    return [dims] if isinstance(dims, int) else list(dims)


def _over(rec: Recorder, call: Call, labels: Tensor, dims: Iterable[int], reason: str) -> bool:
    """Record that an operation runs over channels as a whole; tell whether none of them are left in its result."""
    over = varying(labels, dims)
    if len(over) == 1 and len(varying(labels)) == 1:
        rec.reduces(call, over[0], labels.reshape(-1))
        return True
    rec.join(labels, over, reason)
    return False
