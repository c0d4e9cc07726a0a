"""Rules of products of activations: a head leaves as a whole; without heads, what is summed over leaves in both."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call, left_pad
from explorer.tracing.graph import NONE, varying
from explorer.tracing.labelling import Labelling
from explorer.tracing.rules.unknown import unknown

__all__ = ["attention", "bmm"]


def bmm(labelling: Labelling, call: Call) -> None:
    """Tie what is multiplied in one matrix product of a batch, and what is added to it."""
    if call.name == "baddbmm":
        factors, summand = (call["batch1"], call["batch2"]), call["self"]
    else:
        factors, summand = (call["self"], call["mat2"]), None
    if summand is None and _single(labelling, call, *factors):
        return
    _heads(labelling, call, factors, [labelling.labels(factor) for factor in factors], summand)


def _single(labelling: Labelling, call: Call, rows: Tensor, columns: Tensor) -> bool:
    """Follow a product [n, rows, summed] x [n, summed, columns] without heads; tell whether it is one.

    Channels lie along what is summed over in both factors, or along the rows or the columns of one of them.
    """
    if any(map(labelling.is_parameter, (rows, columns))):
        return False
    left, right = labelling.labels(rows), labelling.labels(columns)
    if varying(left, [0]) or varying(right, [0]):
        return False
    along = bool(varying(left, [2])), bool(varying(right, [1]))
    if all(along):
        # what varies along the other dimension too leaves as a whole
        nodes, other = labelling.channel_labels(rows, 2), labelling.channel_labels(columns, 1)
        labelling.graph.tie(nodes, other)
        labelling.reduces(call, 2, nodes)
        out = torch.full((1, 1, 1), NONE)
    elif any(along) or not (varying(left) or varying(right)) or (varying(left) and varying(right)):
        return False
    else:
        out = left if varying(left) else right
        nodes = out.flatten()
    labelling.heads = nodes
    labelling.set(call.out, out)
    return True


def attention(labelling: Labelling, call: Call) -> None:
    """Tie a head's queries, keys and values; heads that share a key leave together."""
    factors = (call["query"], call["key"], call["value"])
    labels = [labelling.labels(factor) for factor in factors]
    if _one_head(labelling, call, factors, labels):
        return
    heads = factors[0].size(-3)
    for place, factor in enumerate(factors):
        if labels[place].size(-3) > 1:
            labels[place] = labels[place].repeat_interleave(heads // factor.size(-3), -3)
    masks = [argument.name for argument in call.func._schema.arguments if argument.name in ("attn_bias", "attn_mask")]
    _heads(labelling, call, factors, labels, call[masks[0]] if masks else None)


def _one_head(labelling: Labelling, call: Call, factors: Sequence[Tensor], labels: Sequence[Tensor]) -> bool:
    """Follow attention of one head; tell whether it is that.

    The values' channels are those of the output. Those of queries and keys stay: their products are divided by the root
    of their number.
    """
    heads = factors[0].size(-3) if factors[0].dim() > 3 else 1
    if heads > 1 or any(map(labelling.is_parameter, factors)):
        return False
    if any(varying(label, range(-label.dim(), -1)) for label in labels) or not any(map(varying, labels)):
        return False
    queries, keys, values = (labelling.channel_labels(factor, factor.dim() - 1) for factor in factors)
    for label in (queries, keys):
        labelling.graph.fix(label, f"attention divides by the root of their number{labelling.where()}")
    labelling.heads = torch.cat([queries, values])
    out = next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    labelling.set(out, labels[2])
    return True


def _heads(
    labelling: Labelling, call: Call, factors: Sequence[Tensor], labels: list[Tensor], summand: Tensor | None
) -> None:
    """Tie all channels of one leading position, and label the output with them.

    Parameters
    ----------
    factors
        Tensors [..., rows, columns].
    labels
        Their labels, of equal leading dimensions where they vary.
    summand
        What is added to the products of two factors.
    """
    if summand is not None:
        own = _of_summand(labelling, summand)
        labels = [*labels, own.reshape(left_pad(own.shape, labels[0].dim()))]
    heads = [label for label in labels if label.shape[:-2].numel() > 1]
    if not heads or any(map(labelling.is_parameter, factors)):
        unknown(labelling, call)
        return
    for label in labels:
        if label.shape[:-2].numel() == 1:
            labelling.graph.fix(label, f"shared by all heads{labelling.where()}")
    # any label stands for its head; the largest, since padding has the smallest
    nodes = [label.flatten(-2).amax(-1)[..., None, None] for label in heads]
    for label, node in zip(heads, nodes, strict=True):
        labelling.graph.tie(node, label)
        labelling.graph.tie(node, nodes[0])
    out = next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    labelling.heads = nodes[0].flatten()
    labelling.set(out, nodes[0])


def _of_summand(labelling: Labelling, summand: Tensor) -> Tensor:
    """Return the labels of what is added to products; a constant that is different for every head has own ones."""
    labels = labelling.labels(summand)
    heads = [dim for dim in range(summand.dim() - 2) if summand.size(dim) > 1]
    if heads and not labelling.is_parameter(summand) and not bool((labels != NONE).any()):
        return labelling.constant_labels(summand, heads[-1])
    return labels
