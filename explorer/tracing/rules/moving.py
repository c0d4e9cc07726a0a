"""Rules of the operations that move data: views, slices, concatenation, shuffles, padding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from explorer.tracing.calls import Call, left_pad
from explorer.tracing.graph import NONE, compact, varying
from explorer.tracing.labelling import Labelling
from explorer.tracing.rules.unknown import unknown
from explorer.tracing.rules.weights import flattened_rows

__all__ = [
    "channel_shuffle",
    "concatenation",
    "constant",
    "copy_into",
    "glu",
    "like",
    "movement",
    "pad",
    "pixel_shuffle",
    "roll",
    "slicing",
    "split",
]

_VIEWS = ("_reshape_alias", "_unsafe_view", "view")
_INDEXING = {"gather": "index", "index": "indices", "index_select": "index"}


def movement(labelling: Labelling, call: Call) -> None:
    """Move the labels as the data was moved."""
    data, chosen = (call.args[:1], call[_INDEXING[call.name]]) if call.name in _INDEXING else (call.args, ())
    if any(varying(labelling.labels(t)) for t in tree_leaves(chosen) if isinstance(t, Tensor)):
        unknown(labelling, call)  # channels that choose among channels
        return
    moved = [t for t in tree_leaves((data, call.kwargs)) if isinstance(t, Tensor)]
    parameter = moved[0] if len(moved) == 1 and labelling.is_parameter(moved[0]) else None
    if parameter is not None and flattened_rows(labelling, call, parameter):
        return
    if parameter is not None and labelling.moved_parameter(call, parameter):
        return
    if call.name == "index" and not call.out.numel() and call.out.dim() == moved[0].dim():
        labels = labelling.labels(moved[0])
        if all(call.out.size(dim) == moved[0].size(dim) for dim in varying(labels)):
            labelling.set(call.out, labels)
            return
    along = {dim for t in moved for dim in varying(labelling.labels(t))}

    def swap(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and any(leaf is t for t in moved):
            return labelling.whole_labels(leaf, along)
        return leaf

    args, kwargs = tree_map(swap, (data, call.kwargs))
    args = (*args, *call.args[len(args) :])
    if call.name in ("_to_copy", "clone", "contiguous"):
        labels = args[0]
    elif call.name == "_reshape_alias":
        labels = args[0].reshape(args[1])
    elif call.name == "im2col":
        # it knows no integers; labels are far below 2**53
        labels = call.func(args[0].double(), *args[1:], **kwargs).long()
    else:
        labels = call.func(*args, **kwargs)
    for out, label in zip(tree_leaves(call.out), tree_leaves(labels), strict=True):
        labelling.set(out, compact(label))
    for dim, length in enumerate(call["size"] if call.name == "view" else ()):
        if length == call.out.size(dim) and not labelling.is_parameter(call.out):
            labelling.sized(call.out, dim)
    if call.name in _VIEWS and len(moved) == 1 and len(varying(labelling.labels(moved[0]))) == 1:
        divided = labelling.labels(call.out).squeeze()
        if divided.dim() == 2 and divided.size(0) <= divided.size(1):
            labelling.graph.split(divided)


def concatenation(labelling: Labelling, call: Call) -> None:
    """Move the labels; tensors put behind one another along another dimension have their channels tied."""
    # an empty vector, as a cache of keys begins with, is passed over
    tensors = [tensor for tensor in call["tensors"] if tensor.shape != (0,) or call.out.dim() == 1]
    dim = call["dim"] % call.out.dim()
    if len(tensors) == 1 < len(call["tensors"]) and not labelling.is_parameter(tensors[0]):
        labelling.set(call.out, labelling.labels(tensors[0]))
        return
    along = {d for t in tensors for d in varying(labelling.labels(t))}
    labels = [labelling.data_labels(t, along) if labelling.is_parameter(t) else labelling.labels(t) for t in tensors]
    first = next((own for own in labels if varying(own)), None)
    dims = varying(first) if first is not None else [dim]
    if dim in dims or any(own.dim() != call.out.dim() or varying(own) not in ([], dims) for own in labels):
        movement(labelling, call)
    elif first is not None:
        for own in labels:
            labelling.graph.tie(first, own)
        labelling.set(call.out, first)


def channel_shuffle(labelling: Labelling, call: Call) -> None:
    groups = labelling.channel_labels(call["self"], 1).reshape(call["groups"], -1)
    labelling.graph.tie(groups[:1], groups)
    labelling.set(call.out, groups.t().reshape([1, -1] + [1] * (call.out.dim() - 2)))


def pixel_shuffle(labelling: Labelling, call: Call) -> None:
    """Tie the channels that become one channel's pixels."""
    pixels = labelling.channel_labels(call["self"], 1).reshape(-1, call["upscale_factor"] ** 2)
    labelling.graph.tie(pixels[:, :1], pixels)
    labelling.set(call.out, pixels[:, 0].reshape(1, -1, 1, 1))


def split(labelling: Labelling, call: Call) -> None:
    """Move the labels; of equal parts of the channels (``chunk``) every part keeps equally many."""
    source, outs = call["self"], call.out
    dim, sizes = call["dim"] % source.dim(), {out.size(call["dim"]) for out in call.out}
    if varying(labelling.labels(source)) == [dim] and len(sizes) == 1 and len(outs) > 1:
        labelling.graph.balance(labelling.channel_labels(source, dim), len(outs))
    movement(labelling, call)
    if not labelling.is_parameter(source):
        for place, out in enumerate(outs):
            labelling.sized(out, dim, place, len(outs))


def slicing(labelling: Labelling, call: Call) -> None:
    """Move the labels; where channels are cut in the middle both halves keep equally many."""
    source = call["self"]
    dim, labels = call["dim"] % source.dim(), labelling.labels(source)
    cut = call.out.size(dim) != source.size(dim)
    if varying(labels) == [dim] and 2 * call.out.size(dim) == source.size(dim) and call["step"] == 1:
        labelling.graph.balance(labelling.channel_labels(source, dim), 2)
    movement(labelling, call)
    if cut and not labelling.is_parameter(source):
        labelling.sized(call.out, dim)


def roll(labelling: Labelling, call: Call) -> None:
    """Move the labels; what goes around the end of the channels would meet others once some are gone."""
    if varying(labelling.labels(call["self"]), call["dims"] or None):
        unknown(labelling, call)
    else:
        movement(labelling, call)


def glu(labelling: Labelling, call: Call) -> None:
    """Tie the half that is scaled to the half that scales it."""
    source = call["self"]
    first, second = labelling.whole_labels(source).chunk(2, call["dim"])
    labelling.graph.tie(first, second)
    labelling.set(call.out, compact(torch.where(first != NONE, first, second)))


def like(labelling: Labelling, call: Call) -> None:
    """Give constants made in the shape of an activation its labels: they shrink with it."""
    labelling.set(call.out, labelling.labels(call["self"]))


def constant(labelling: Labelling, call: Call) -> None:
    """Give no labels to constants that take no more than type and device from an activation."""


def pad(labelling: Labelling, call: Call) -> None:
    """Label padding as no channel, along the dimensions where channels vary; elsewhere it belongs to its channel."""
    source = call["self"]
    labels = labelling.labels(source)
    amounts = list(call["pad"])
    for i in range(len(amounts) // 2):
        if labels.size(source.dim() - 1 - i) == 1:
            amounts[2 * i : 2 * i + 2] = [0, 0]
    labelling.set(call.out, compact(torch.nn.functional.pad(labels, amounts, value=NONE)))


def copy_into(labelling: Labelling, call: Call) -> None:
    """Move the labels, and tie them to those of what is overwritten, whose shape stays."""
    labels = labelling.labels(call["src"])
    labels = labels.reshape(left_pad(labels.shape, call.out.dim()))
    labelling.graph.tie(labelling.labels(call["self"]), labels)
    labelling.set(call.out, labels)
