"""Rules of products of activations: a head is computed with as a whole, and leaves as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.rules.calls import Call, left_pad, unknown

if TYPE_CHECKING:
    from explorer.tracing.recorder import Recorder

__all__ = ["attention", "bmm"]


def bmm(rec: Recorder, call: Call) -> None:
    """Tie what is multiplied in one matrix product of a batch, and what is added to it."""
    if call.name == "baddbmm":
        factors, summand = (call["batch1"], call["batch2"]), call["self"]
    else:
        factors, summand = (call["self"], call["mat2"]), None
    _heads(rec, call, factors, [rec.labels(factor) for factor in factors], summand)


def attention(rec: Recorder, call: Call) -> None:
    """Tie a head's queries, keys and values; heads that share a key leave together."""
    factors = (call["query"], call["key"], call["value"])
    labels = [rec.labels(factor) for factor in factors]
    heads = factors[0].size(-3)
    for place, factor in enumerate(factors):
        if labels[place].size(-3) > 1:
            labels[place] = labels[place].repeat_interleave(heads // factor.size(-3), -3)
    masks = [argument.name for argument in call.func._schema.arguments if argument.name in ("attn_bias", "attn_mask")]
    _heads(rec, call, factors, labels, call[masks[0]] if masks else None)


def _heads(rec: Recorder, call: Call, factors: Sequence[Tensor], labels: list[Tensor], summand: Tensor | None) -> None:
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
        own = rec.labels(summand)
        labels = [*labels, own.reshape(left_pad(own.shape, labels[0].dim()))]
    heads = [label for label in labels if label.shape[:-2].numel() > 1]
    if not heads or any(map(rec.is_parameter, factors)):
        unknown(rec, call)
        return
    for label in labels:
        if label.shape[:-2].numel() == 1:
            rec.graph.fix(label, f"shared by all heads{rec.where()}")
    # any label stands for its head; the largest, since padding has the smallest
    nodes = [label.flatten(-2).amax(-1)[..., None, None] for label in heads]
    for label, node in zip(heads, nodes, strict=True):
        rec.graph.tie(node, label)
        rec.graph.tie(node, nodes[0])
    out = next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    rec.heads = nodes[0].flatten()
    rec.set(out, nodes[0])
