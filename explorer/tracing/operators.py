"""What each ATen operation does to channel labels: a table from operator name to rule.

A rule takes the recorder, the call's bound arguments and its output, and labels the output. Operators tagged
pointwise and those that only move data share one rule each; what is in no table fixes the channels it touches.
"""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from explorer.tracing.labels import NONE, compact, varying

if TYPE_CHECKING:
    from explorer.tracing.recorder import Recorder

__all__ = ["Call", "rule_for"]


@dataclass(frozen=True)
class Call:
    """One executed operation: its name without overload, arguments by schema name, and output."""

    func: torch._ops.OpOverload
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def __getitem__(self, name: str) -> Any:
        """Return an argument by its name in the operator's schema, with its default where it was left out."""
        for position, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                if position < len(self.args):
                    return self.args[position]
                return self.kwargs.get(name, argument.default_value)
        raise KeyError(name)

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]


Rule = Callable[["Recorder", Call], None]


def rule_for(func: torch._ops.OpOverload, name: str) -> Rule:
    """Return the rule of an operator; `unknown` where nothing is known of it."""
    if name in _RULES:
        return _RULES[name]
    if torch.Tag.pointwise in func.tags or name in _POINTWISE:
        return pointwise
    return unknown


def unknown(rec: Recorder, call: Call) -> None:
    """Fix every channel that goes in, and give the output one fixed label."""
    reason = f"passes through {call.name}, which the tracer cannot follow{rec.where()}"
    for tensor in call.tensors:
        rec.fix(tensor, reason)
    node = rec.graph.node(reason)
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            rec.set(out, torch.full((1,) * out.dim(), node))


def pointwise(rec: Recorder, call: Call) -> None:
    """Tie what is combined element by element."""
    out = next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    operands = [(t, rec.labels(t)) for t in call.tensors if not rec.is_parameter(t)]
    aligned = [
        (_left_pad(t.shape, out.dim()), labels.reshape(_left_pad(labels.shape, out.dim()))) for t, labels in operands
    ]
    result = torch.zeros((1,) * out.dim(), dtype=torch.int64)
    for i, (shape, labels) in enumerate(aligned):
        _fix_beside_padding(rec, labels, [other for j, (_, other) in enumerate(aligned) if j != i])
        others = [other for j, (_, other) in enumerate(aligned) if j != i]
        if any(shape[d] == 1 and other.size(d) > 1 for other in others for d in range(out.dim())):
            rec.graph.fix(labels, f"broadcast over the channels of another tensor{rec.where()}")
            continue
        rec.graph.tie(result, labels)
        result = torch.where(result != NONE, result, labels)
    for tensor in call.tensors:
        if rec.is_parameter(tensor):
            result = _with_parameter(rec, tensor, compact(result), out.dim())
    rec.set(out, compact(result))


def _fix_beside_padding(rec: Recorder, labels: Tensor, others: list[Tensor]) -> None:
    """Fix the channels that are combined with padding between channels, whose width the model's code knows."""
    if not varying(labels) or not bool((labels == NONE).any()):
        return
    for other in others:
        own, beside = torch.broadcast_tensors(labels, other)
        rec.graph.fix(beside[own == NONE], f"combined with constant channels{rec.where()}")


def _with_parameter(rec: Recorder, tensor: Tensor, result: Tensor, ndim: int) -> Tensor:
    """Tie a parameter's entries to the labels they are combined with; without any, they are the labels."""
    offset = ndim - tensor.dim()
    long = [dim for dim in range(tensor.dim()) if tensor.size(dim) > 1]
    varies = varying(result)
    if not bool((result != NONE).any()):
        if len(long) > 1:
            rec.fix(tensor, f"computed from a parameter{rec.where()}")
            return torch.full((1,) * ndim, rec.graph.node(f"computed from a parameter{rec.where()}"))
        return rec.parameter_labels(tensor, long[0], ndim, offset) if long else result
    for dim in long:
        if varies == [dim + offset]:
            rec.graph.tie(rec.parameter_labels(tensor, dim, ndim, offset), result)
        elif dim + offset in varies or not varies:
            rec.graph.fix(result, f"combined with a parameter along several dimensions{rec.where()}")
    return result


def _left_pad(shape: torch.Size, ndim: int) -> list[int]:
    return [1] * (ndim - len(shape)) + list(shape)


def movement(rec: Recorder, call: Call) -> None:
    """Move the labels as the data was moved."""
    data, chosen = (call.args[:1], call[_INDEXING[call.name]]) if call.name in _INDEXING else (call.args, ())
    if any(varying(rec.labels(t)) for t in tree_leaves(chosen) if isinstance(t, Tensor)):
        unknown(rec, call)  # channels that choose among channels
        return
    moved = [t for t in tree_leaves((data, call.kwargs)) if isinstance(t, Tensor)]
    if len(moved) == 1 and rec.is_parameter(moved[0]):
        rec.move_parameter(call, moved[0])
        return
    if any(rec.is_parameter(t) for t in moved) and call.name not in ("cat", "stack", "copy_"):
        unknown(rec, call)
        return

    def swap(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) and any(leaf is t for t in moved):
            return rec.whole_labels(leaf)
        return leaf

    args, kwargs = tree_map(swap, (data, call.kwargs))
    args = (*args, *call.args[len(args) :])
    if call.name in ("_to_copy", "clone", "contiguous"):
        labels = args[0]
    elif call.name == "_reshape_alias":
        labels = args[0].reshape(args[1])
    else:
        labels = call.func(*args, **kwargs)
    for out, label in zip(tree_leaves(call.out), tree_leaves(labels), strict=True):
        rec.set(out, compact(label))
    if call.name in _VIEWS and len(moved) == 1 and len(varying(rec.labels(moved[0]))) == 1:
        _tie_groups(rec, call.out)


def _tie_groups(rec: Recorder, out: Tensor) -> None:
    """Tie the i-th channels of all groups where a view divides channels in groups, as a channel shuffle does."""
    labels = rec.labels(out)
    split = varying(labels)
    if len(split) == 2 and labels.size(split[0]) <= labels.size(split[1]):
        rec.graph.tie(labels.narrow(split[0], 0, 1), labels)


def channel_shuffle(rec: Recorder, call: Call) -> None:
    groups = rec.channel_labels(call["self"], 1).reshape(call["groups"], -1)
    rec.graph.tie(groups[:1], groups)
    rec.set(call.out, groups.t().reshape([1, -1] + [1] * (call.out.dim() - 2)))


def pixel_shuffle(rec: Recorder, call: Call) -> None:
    """Tie the channels that become one channel's pixels."""
    pixels = rec.channel_labels(call["self"], 1).reshape(-1, call["upscale_factor"] ** 2)
    rec.graph.tie(pixels[:, :1], pixels)
    rec.set(call.out, pixels[:, 0].reshape(1, -1, 1, 1))


def split(rec: Recorder, call: Call) -> None:
    """Move the labels; of equal parts of the channels (``chunk``) every part keeps equally many."""
    source = call["self"]
    dim, parts = call["dim"] % source.dim(), len(call.out)
    labels = rec.labels(source)
    if varying(labels) == [dim] and source.size(dim) % parts == 0 and parts > 1:
        rec.graph.balance(rec.channel_labels(source, dim), parts)
    movement(rec, call)


def slicing(rec: Recorder, call: Call) -> None:
    """Move the labels; where channels are cut in the middle both halves keep equally many."""
    source = call["self"]
    dim, labels = call["dim"] % source.dim(), rec.labels(source)
    if varying(labels) == [dim] and 2 * call.out.size(dim) == source.size(dim) and call["step"] == 1:
        rec.graph.balance(rec.channel_labels(source, dim), 2)
    movement(rec, call)


def roll(rec: Recorder, call: Call) -> None:
    """Move the labels; what goes around the end of the channels would meet others once some are gone."""
    if varying(rec.labels(call["self"]), call["dims"] or None):
        unknown(rec, call)
    else:
        movement(rec, call)


def glu(rec: Recorder, call: Call) -> None:
    """Tie the half that is scaled to the half that scales it."""
    source = call["self"]
    first, second = rec.whole_labels(source).chunk(2, call["dim"])
    rec.graph.tie(first, second)
    rec.set(call.out, compact(torch.where(first != NONE, first, second)))


def like(rec: Recorder, call: Call) -> None:
    """Give constants made in the shape of an activation its labels: they shrink with it."""
    rec.set(call.out, rec.labels(call["self"]))


def constant(rec: Recorder, call: Call) -> None:
    """Give no labels to constants that take no more than type and device from an activation."""


def pad(rec: Recorder, call: Call) -> None:
    """Label padding as no channel, along the dimensions where channels vary; elsewhere it belongs to its channel."""
    source = call["self"]
    labels = rec.labels(source)
    amounts = list(call["pad"])
    for i in range(len(amounts) // 2):
        if labels.size(source.dim() - 1 - i) == 1:
            amounts[2 * i : 2 * i + 2] = [0, 0]
    rec.set(call.out, compact(torch.nn.functional.pad(labels, amounts, value=NONE)))


def copy_into(rec: Recorder, call: Call) -> None:
    rec.set(call.out, rec.labels(call["src"]).reshape(_left_pad(rec.labels(call["src"]).shape, call.out.dim())))


def spatial(rec: Recorder, call: Call) -> None:
    """Pool or resize every channel by itself over the dimensions after the second."""
    source = call.tensors[0]
    labels = rec.labels(source)
    if varying(labels, range(2, source.dim())):
        unknown(rec, call)
        return
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            rec.set(out, labels)


def reduction(rec: Recorder, call: Call) -> None:
    """Keep the labels of the dimensions that stay; channels that are reduced over are fixed."""
    source, out = call["self"], next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    try:
        dims = call["dim"]
    except KeyError:
        dims = None
    dims = list(range(source.dim())) if dims in (None, []) else [dims] if isinstance(dims, int) else list(dims)
    labels = rec.labels(source)
    if varying(labels, dims):
        rec.graph.fix(labels, f"reduced over channels by {call.name}{rec.where()}")
    for dim in sorted((dim % source.dim() for dim in dims), reverse=True):
        labels = labels.narrow(dim, 0, 1) if out.dim() == source.dim() else labels.select(dim, 0)
    for leaf in tree_leaves(call.out):
        rec.set(leaf, labels)


def along(rec: Recorder, call: Call) -> None:
    """Keep the labels of an operation along one dimension (softmax, cumsum), fixed where channels lie along it."""
    labels = rec.labels(call["self"])
    if varying(labels, [call["dim"]]):
        rec.graph.fix(labels, f"{call.name} runs over the channels{rec.where()}")
    rec.set(call.out, labels)


def batch_norm(rec: Recorder, call: Call) -> None:
    source = call["input"]
    labels = rec.channel_labels(source, 1)
    out = call.out[0]
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = call[name]
        if tensor is None:
            continue
        if not rec.is_parameter(tensor):
            rec.graph.fix(labels, f"normalised with computed statistics{rec.where()}")
            continue
        rec.graph.tie(rec.parameter_block(tensor, 0).nodes, labels)
    rec.set(out, labels.reshape([1, -1] + [1] * (out.dim() - 2)))


def layer_norm(rec: Recorder, call: Call) -> None:
    source, out = call["input"], call.out[0]
    labels = rec.labels(source)
    if varying(labels, range(source.dim() - len(call["normalized_shape"]), source.dim())):
        rec.graph.fix(labels, f"normalised over the channels by a layer norm{rec.where()}")
    rec.set(out, labels)


def group_norm(rec: Recorder, call: Call) -> None:
    labels = rec.labels(call["input"])
    rec.graph.fix(labels, f"normalised over groups of channels{rec.where()}")
    rec.set(call.out[0], labels)


def convolution(rec: Recorder, call: Call) -> None:
    source, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    if not rec.is_parameter(weight) or (call["transposed"] and groups not in (1, source.size(1))):
        unknown(rec, call)
        return
    channels = source.size(1)
    labels = rec.channel_labels(source, 1)
    reading, writing = (0, 1) if call["transposed"] else (1, 0)
    if groups == channels and channels > 1:
        # depthwise: every filter belongs to the channel it reads, so nothing is read across channels
        written = rec.parameter_block(weight, 0)
        rec.graph.tie(written.nodes.reshape(channels, -1), labels.reshape(channels, 1))
        if call["transposed"] and weight.size(1) > 1:
            unknown(rec, call)
            return
    else:
        read = rec.parameter_block(weight, reading, length=channels)
        read.groups, read.reads = groups, True
        rec.graph.tie(read.nodes, labels)
        written = rec.parameter_block(weight, writing)
        if groups > 1:
            rec.graph.balance(read.nodes, groups)
            rec.graph.balance(written.nodes, groups)
    written.writes = True
    if bias is not None:
        _tie_bias(rec, bias, written.nodes)
    positions = (source if call["transposed"] else call.out)[0, 0].numel() * source.size(0) // rec.batch
    rec.graph.ran(rec.parameter_name(weight), "conv", positions)
    rec.set(call.out, written.nodes.reshape([1, -1] + [1] * (call.out.dim() - 2)))


def addmm(rec: Recorder, call: Call) -> None:
    _matrix_product(rec, call, call["mat1"], call["mat2"], call["self"])


def mm(rec: Recorder, call: Call) -> None:
    _matrix_product(rec, call, call["self"], call["mat2"], None)


def _matrix_product(rec: Recorder, call: Call, source: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if not rec.is_parameter(weight) or rec.is_parameter(source):
        unknown(rec, call)
        return
    labels = rec.channel_labels(source, 1)
    read, written = rec.parameter_block(weight, 0), rec.parameter_block(weight, 1)
    read.reads = written.writes = True
    rec.graph.tie(read.nodes, labels)
    if bias is not None:
        _tie_bias(rec, bias, written.nodes)
    rec.graph.ran(rec.parameter_name(weight), "linear", max(1, source.size(0) // rec.batch))
    rec.set(call.out, written.nodes.reshape(1, -1))


def _tie_bias(rec: Recorder, bias: Tensor, nodes: Tensor) -> None:
    if rec.is_parameter(bias) and bias.dim() == 1:
        rec.graph.tie(rec.parameter_block(bias, 0).nodes, nodes)
    else:
        rec.graph.fix(nodes, f"added to a computed bias{rec.where()}")


def embedding(rec: Recorder, call: Call) -> None:
    weight = call["weight"]
    if not rec.is_parameter(weight):
        unknown(rec, call)
        return
    written = rec.parameter_block(weight, 1)
    written.writes = True
    rec.set(call.out, written.nodes.reshape([1] * (call.out.dim() - 1) + [-1]))


_MOVEMENT = """
    _reshape_alias _to_copy _unsafe_view alias cat clone contiguous detach expand flip
    flatten gather im2col index index_select lift_fresh movedim narrow permute
    pixel_unshuffle repeat reshape select split_with_sizes squeeze stack swapaxes t transpose
    unbind unfold unsqueeze view view_copy
""".split()
_SPATIAL = """
    _adaptive_avg_pool2d _adaptive_avg_pool3d _upsample_bicubic2d_aa _upsample_bilinear2d_aa adaptive_avg_pool1d
    adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool2d max_pool2d_with_indices
    max_pool3d_with_indices reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d upsample_bicubic2d
    upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d
""".split()
_REDUCTION = "all amax amin any argmax argmin logsumexp max mean median min norm prod std sum var var_mean".split()
_POINTWISE = {"_prelu_kernel", "dropout", "hardswish", "log_sigmoid_forward", "masked_fill", "nan_to_num", "where"}
_VIEWS = ("_reshape_alias", "_unsafe_view", "view")
_INDEXING = {"gather": "index", "index": "indices", "index_select": "index"}
_LIKE = "empty_like full_like ones_like rand_like randn_like zeros_like".split()
_CONSTANT = "new_empty new_empty_strided new_full new_ones new_zeros".split()
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_MOVEMENT, movement),
    **dict.fromkeys(_SPATIAL, spatial),
    **dict.fromkeys(_LIKE, like),
    **dict.fromkeys(_CONSTANT, constant),
    **dict.fromkeys(["split", "unsafe_split"], split),
    **dict.fromkeys(_REDUCTION, reduction),
    **dict.fromkeys(["_log_softmax", "_softmax", "cumsum", "log_softmax", "softmax"], along),
    **dict.fromkeys(
        ["_native_batch_norm_legit_no_training", "cudnn_batch_norm", "miopen_batch_norm", "native_batch_norm"],
        batch_norm,
    ),
    "addmm": addmm,
    "channel_shuffle": channel_shuffle,
    "constant_pad_nd": pad,
    "convolution": convolution,
    "copy_": copy_into,
    "embedding": embedding,
    "glu": glu,
    "mm": mm,
    "native_group_norm": group_norm,
    "native_channel_shuffle": channel_shuffle,
    "pixel_shuffle": pixel_shuffle,
    "roll": roll,
    "slice": slicing,
    "native_layer_norm": layer_norm,
}
