"""Rules of what sends rows to places: experts, graphs, routers that choose among them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call, left_pad
from explorer.tracing.graph import NONE, compact, varying
from explorer.tracing.labelling import Labelling
from explorer.tracing.rules.unknown import unknown

__all__ = ["choice", "filled", "grouped_product", "placement", "scattered"]

# of rows, in bytes: torch's grouped product takes no others
_ALIGNED = 16
_SOURCES = ("source", "src", "values")


def grouped_product(labelling: Labelling, call: Call) -> None:
    """Tie the inputs of all experts, and those of their outputs that are at one place."""
    source, weight = call.tensors[:2]
    offsets = call["offs"]
    if not labelling.is_weight(weight) or weight.dim() != 3 or source.dim() != 2 or offsets is None:
        unknown(labelling, call)
        return
    labelling.graph.tie(labelling.parameter_nodes(weight, 1), labelling.channel_labels(source, 1))
    aligned = _ALIGNED // weight.element_size()
    if call.name == "_grouped_mm" and weight.size(1) % aligned == 0:
        # in groups that keep equally many the width stays a multiple of what the kernel takes
        labelling.graph.balance(labelling.parameter_nodes(weight, 1), aligned)
    labelling.parameter_block(weight, 1).reads = labelling.parameter_block(weight, 2).writes = True
    begin = 0
    for number, end in enumerate(offsets.tolist()):
        labelling.multiplied(weight, "linear", max(0, end - begin), matrix=number)
        begin = max(begin, end)
    labelling.set(call.out, labelling.parameter_nodes(weight, 2).reshape(1, -1))


def placement(labelling: Labelling, call: Call) -> None:
    """Tie rows that are put, or added, to others by their places: channels stay channels."""
    target = call["self"]
    names = {argument.name for argument in call.func._schema.arguments}
    source = next((call[name] for name in _SOURCES if name in names), None)
    indices = call["indices"] if "indices" in names else [call["index"]]
    over = _indexed(call, indices)
    if not isinstance(source, Tensor):
        unknown(labelling, call)
        return
    labels, own = labelling.labels(target), labelling.labels(source)
    apart = "indices" in names
    # of values that lie at indices only the dimensions behind these are the target's
    rest = target.dim() - len(over or ()) if apart else target.dim()
    if (
        any(map(labelling.is_parameter, (target, source)))
        or any(varying(labelling.labels(t)) for t in tree_leaves(indices) if isinstance(t, Tensor))
        or over is None
        or varying(labels, over)
        or any(dim < own.dim() - rest for dim in varying(own))
        or (not apart and (source.dim() != target.dim() or varying(own, over)))
    ):
        unknown(labelling, call)
        return
    for _ in range(own.dim() - min(rest, own.dim())):
        own = own.select(0, 0)
    own = own.reshape(left_pad(own.shape, target.dim()))
    labelling.graph.tie(labels, own)
    labelling.set(call.out, compact(torch.where(labels != NONE, labels, own)))


def scattered(labelling: Labelling, call: Call) -> None:
    """Tie rows that are put where a mask has rows, as embeddings of images among those of tokens.

    Channels along the last dimension stay channels.
    """
    target, mask, source = call["self"], call["mask"], call["source"]
    labels, own = labelling.labels(target), labelling.labels(source)
    last, ends = target.dim() - 1, source.dim() - 1
    whole = mask.size(-1) == 1 or bool((mask == mask[..., :1]).all())
    if (
        any(map(labelling.is_parameter, (target, source)))
        or not whole
        or source.size(-1) != target.size(-1)
        or varying(labels) not in ([], [last])
        or varying(own) not in ([], [ends])
    ):
        unknown(labelling, call)
        return
    own = own.reshape([1] * last + [-1])
    labelling.graph.tie(labels, own)
    labelling.set(call.out, compact(torch.where(labels != NONE, labels, own)))


def filled(labelling: Labelling, call: Call) -> None:
    """Keep the labels where rows become constant; channels that are chosen by their place are fixed."""
    source = call["self"]
    labels = labelling.labels(source)
    if labelling.is_parameter(source) or varying(labels, [call["dim"] % max(1, source.dim())]):
        unknown(labelling, call)
    else:
        labelling.set(call.out, labels)


def _indexed(call: Call, indices: Iterable[Tensor | None]) -> list[int] | None:
    """Return the dimensions along which places are given, where they are the first ones or one only."""
    dims = [dim for dim, index in enumerate(indices) if index is not None]
    if "indices" in {argument.name for argument in call.func._schema.arguments}:
        return dims if dims == list(range(len(dims))) else None
    return [call["dim"] % max(1, call["self"].dim())]


def choice(labelling: Labelling, call: Call) -> None:
    """Fix the channels that are chosen among; whatever lies along other dimensions stays."""
    source = call["self"]
    if labelling.is_parameter(source) or not source.dim():
        unknown(labelling, call)
        return
    labels, dim = labelling.labels(source), call["dim"] % source.dim()
    if labels.size(dim) > 1:
        labelling.graph.fix(labels, f"chosen among by {call.name}{labelling.where()}")
        labels = labels.narrow(dim, 0, 1)
        labels = torch.full_like(labels, NONE) if labels.numel() == 1 else labels
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            labelling.set(out, labels)
