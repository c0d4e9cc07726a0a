"""What each ATen operation does to channel labels: a table from operator name to rule.

A rule takes the recorder, the call's bound arguments and its output, and labels the output. Operators tagged
pointwise and those that only move data share one rule each; what is in no table fixes the channels it touches.
"""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call, left_pad
from explorer.tracing.graph import NONE, compact, varying
from explorer.tracing.labelling import Labelling
from explorer.tracing.reductions import ALONG, LAYER_NORMS, REDUCING
from explorer.tracing.rules.attention import attention, bmm
from explorer.tracing.rules.layers import addmm, batch_norm, convolution, embedding, mm
from explorer.tracing.rules.moving import (
    channel_shuffle,
    concatenation,
    constant,
    copy_into,
    glu,
    like,
    movement,
    pad,
    pixel_shuffle,
    roll,
    slicing,
    split,
)
from explorer.tracing.rules.reducing import along, averages, group_norm, layer_norm, reduction, search
from explorer.tracing.rules.routing import choice, filled, grouped_product, placement, scattered
from explorer.tracing.rules.unknown import unknown
from explorer.tracing.rules.weights import combined_parameters, weight_norm

__all__ = ["rule_for"]

Rule = Callable[[Labelling, Call], None]


def rule_for(func: torch._ops.OpOverload, name: str) -> Rule:
    """Return the rule of an operator; `unknown` where nothing is known of it."""
    if name in _RULES:
        return _RULES[name]
    if torch.Tag.pointwise in func.tags or name in _POINTWISE:
        return pointwise
    return unknown


def pointwise(labelling: Labelling, call: Call) -> None:
    """Tie what is combined element by element."""
    if combined_parameters(labelling, call):
        return
    out = next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    operands = [(t, labelling.labels(t)) for t in call.tensors if not labelling.is_parameter(t)]
    operands = _with_constants(labelling, operands, out.dim())
    aligned = [
        (left_pad(t.shape, out.dim()), labels.reshape(left_pad(labels.shape, out.dim()))) for t, labels in operands
    ]
    result = torch.zeros((1,) * out.dim(), dtype=torch.int64)
    for i, (shape, labels) in enumerate(aligned):
        _fix_beside_padding(labelling, labels, [other for j, (_, other) in enumerate(aligned) if j != i])
        others = [other for j, (_, other) in enumerate(aligned) if j != i]
        wider = [other for other in others if any(shape[d] == 1 < other.size(d) for d in range(out.dim()))]
        if wider:
            _broadcast(labelling, labels, wider)
            continue
        labelling.graph.tie(result, labels)
        result = torch.where(result != NONE, result, labels)
    for tensor in call.tensors:
        if labelling.is_parameter(tensor):
            result = _with_parameter(labelling, tensor, compact(result), out.dim())
    labelling.set(out, compact(result))
    averages(labelling, call)


def _with_constants(
    labelling: Labelling, operands: list[tuple[Tensor, Tensor]], ndim: int
) -> list[tuple[Tensor, Tensor]]:
    """Return the operands with labels of those constants that are as wide as the channels of another operand."""
    if len(operands) < 2:
        return operands
    along = {dim + ndim - labels.dim() for _, labels in operands for dim in varying(labels)}
    found = []
    for tensor, labels in operands:
        own = {dim - ndim + tensor.dim() for dim in along}
        wide = [dim for dim in own if dim >= 0 and tensor.size(dim) > 1]
        if len(wide) == 1 and not varying(labels) and not bool((labels != NONE).any()):
            labels = labelling.constant_labels(tensor, wide[0])
        found.append((tensor, labels))
    return found


def _broadcast(labelling: Labelling, labels: Tensor, others: list[Tensor]) -> None:
    """Tie what is computed for every head to the head's channels; anything else broadcast over channels is fixed."""
    heads = varying(labels)
    if heads and all(other.size(dim) > 1 for other in others for dim in heads):
        for other in others:
            if varying(other)[: len(heads)] == heads:
                labelling.graph.tie(labels, other)
            else:
                # one computed scale for the channels of every head
                labelling.join(other, heads, "")
                labelling.graph.fix(labels, f"combined with every head{labelling.where()}")
    else:
        labelling.graph.fix(labels, f"broadcast over the channels of another tensor{labelling.where()}")


def _fix_beside_padding(labelling: Labelling, labels: Tensor, others: list[Tensor]) -> None:
    """Fix the channels that are combined with padding between channels, whose width the model's code knows."""
    if not varying(labels) or not bool((labels == NONE).any()):
        return
    for other in others:
        own, beside = torch.broadcast_tensors(labels, other)
        labelling.graph.fix(beside[own == NONE], f"combined with constant channels{labelling.where()}")


def _with_parameter(labelling: Labelling, tensor: Tensor, result: Tensor, ndim: int) -> Tensor:
    """Tie a parameter's entries to the labels they are combined with; without any, they are the labels."""
    offset = ndim - tensor.dim()
    long = [dim for dim in range(tensor.dim()) if tensor.size(dim) > 1]
    varies = varying(result)
    if not bool((result != NONE).any()):
        own = labelling.data_labels(tensor)
        return own.reshape(left_pad(own.shape, ndim))
    for dim in long:
        if varies[:1] == [dim + offset]:
            labelling.graph.tie(labelling.parameter_labels(tensor, dim, ndim, offset), result)
        elif dim + offset in varies:
            # one parameter for the channels of every head
            labelling.join(result, [dim + offset], "")
        elif not varies:
            labelling.graph.fix(result, f"combined with a parameter along several dimensions{labelling.where()}")
    return result


def spatial(labelling: Labelling, call: Call) -> None:
    """Pool or resize every channel by itself over the last dimensions, as many as the name says."""
    source = call.tensors[0]
    labels = labelling.labels(source)
    if varying(labels, range(-int(next(filter(str.isdigit, call.name))), 0)):
        unknown(labelling, call)
        return
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            labelling.set(out, labels)


def sampling(labelling: Labelling, call: Call) -> None:
    """Let every channel's pixels be taken from where a grid says, whose own channels are coordinates."""
    labelling.fix(call["grid"], f"says where pixels are taken from{labelling.where()}")
    labelling.set(call.out, labelling.channel_labels(call["input"], 1).reshape([1, -1] + [1] * (call.out.dim() - 2)))


def filling(labelling: Labelling, call: Call) -> None:
    """Keep the labels of what becomes constant: it shrinks with its channels."""


def restride(labelling: Labelling, call: Call) -> None:
    """Keep the labels of what is only laid out anew, as pooling does to one pixel that is stored channels last."""
    labels = labelling.labels(call.out)
    alike = labels.dim() == call.out.dim() and all(
        a in (1, b) for a, b in zip(labels.shape, call.out.shape, strict=True)
    )
    if not alike or call.out is not call["self"]:
        unknown(labelling, call)


_MOVEMENT = """
    _reshape_alias _to_copy _unsafe_view alias clone contiguous detach expand flip
    flatten gather im2col index index_select lift_fresh movedim narrow permute
    pixel_unshuffle repeat reshape select squeeze stack swapaxes t transpose
    unbind unfold unsqueeze view view_copy
""".split()
_SPATIAL = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa adaptive_avg_pool1d
    adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool2d max_pool2d_with_indices
    max_pool3d_with_indices reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d
""".split()
_POINTWISE = {"_prelu_kernel", "dropout", "hardswish", "log_sigmoid_forward", "masked_fill", "nan_to_num", "where"}
_LIKE = "empty_like full_like ones_like rand_like randn_like zeros_like".split()
_CONSTANT = "new_empty new_empty_strided new_full new_ones new_zeros".split()
_PLACING = "index_add index_copy index_put index_reduce scatter scatter_add scatter_reduce _unsafe_index_put".split()
_ATTENTION = """
    _scaled_dot_product_attention_math _scaled_dot_product_cudnn_attention _scaled_dot_product_efficient_attention
    _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
    _scaled_dot_product_fused_attention_overrideable
""".split()
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVEMENT, movement),
    **dict.fromkeys(_SPATIAL, spatial),
    **dict.fromkeys(_LIKE, like),
    **dict.fromkeys(_CONSTANT, constant),
    **dict.fromkeys(["split", "split_with_sizes", "unsafe_split"], split),
    **dict.fromkeys(REDUCING, reduction),
    **dict.fromkeys(ALONG, along),
    **dict.fromkeys(["argmax", "argmin"], search),
    **dict.fromkeys(LAYER_NORMS, layer_norm),
    **dict.fromkeys(_ATTENTION, attention),
    **dict.fromkeys(
        ["_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm", "native_batch_norm"],
        batch_norm,
    ),
    "addmm": addmm,
    **dict.fromkeys(["_grouped_mm", "grouped_mm_fallback"], grouped_product),
    **dict.fromkeys(_PLACING, placement),
    **dict.fromkeys(["argsort", "sort", "topk"], choice),
    "_weight_norm_interface": weight_norm,
    "as_strided": restride,
    "baddbmm": bmm,
    "bmm": bmm,
    "cat": concatenation,
    "channel_shuffle": channel_shuffle,
    "constant_pad_nd": pad,
    "convolution": convolution,
    "copy_": copy_into,
    "embedding": embedding,
    "fill": filling,
    "glu": glu,
    "index_fill": filled,
    "masked_scatter": scattered,
    "grid_sampler_2d": sampling,
    "grid_sampler_3d": sampling,
    "mm": mm,
    "native_group_norm": group_norm,
    "native_channel_shuffle": channel_shuffle,
    "pixel_shuffle": pixel_shuffle,
    "roll": roll,
    "slice": slicing,
    "zero": filling,
}
