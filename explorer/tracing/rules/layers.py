"""Rules of the operations with weights: convolutions, matrix products, norms, embeddings."""

from __future__ import annotations

from torch import Tensor

from explorer.tracing.calls import Call
from explorer.tracing.labelling import Labelling
from explorer.tracing.rules.unknown import unknown

__all__ = ["addmm", "batch_norm", "convolution", "embedding", "mm"]


def batch_norm(labelling: Labelling, call: Call) -> None:
    source = call["input"]
    labels = labelling.channel_labels(source, 1)
    out = call.out[0]
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = call[name]
        if tensor is None:
            continue
        # an instance norm repeats them for every input
        labelling.graph.tie(
            labelling.parameter_nodes(tensor, 0) if labelling.is_parameter(tensor) else labelling.labels(tensor), labels
        )
    labelling.set(out, labels.reshape([1, -1] + [1] * (out.dim() - 2)))


def convolution(labelling: Labelling, call: Call) -> None:
    source, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    if not labelling.is_whole(weight) or (call["transposed"] and groups not in (1, source.size(1))):
        unknown(labelling, call)
        return
    channels = source.size(1)
    labels = labelling.channel_labels(source, 1)
    reading, writing = (0, 1) if call["transposed"] else (1, 0)
    if groups == channels and channels > 1:
        # depthwise: every filter belongs to the channel it reads, so nothing is read across channels
        written = labelling.parameter_block(weight, 0)
        labelling.graph.tie(written.nodes.reshape(channels, -1), labels.reshape(channels, 1))
        if call["transposed"] and weight.size(1) > 1:
            unknown(labelling, call)
            return
    else:
        read = labelling.parameter_block(weight, reading, length=channels)
        read.reads = True
        written = labelling.parameter_block(weight, writing)
        if read.length < channels:
            # the weight is computed, by rows that are as long in all groups: the same inputs of all leave at once
            labelling.graph.tie(labels.reshape(groups, -1), read.nodes[None])
        else:
            read.groups = groups
            labelling.graph.tie(read.nodes, labels)
        if groups > 1:
            labelling.graph.balance(labels, groups)
            labelling.graph.balance(written.nodes, groups)
    written.writes = True
    if bias is not None:
        _tie_bias(labelling, bias, written.nodes)
    positions = (source if call["transposed"] else call.out)[0, 0].numel() * source.size(0)
    kind = "conv_transposed" if call["transposed"] else "conv"
    labelling.multiplied(weight, kind, positions, groups)
    labelling.set(call.out, written.nodes.reshape([1, -1] + [1] * (call.out.dim() - 2)))


def addmm(labelling: Labelling, call: Call) -> None:
    _matrix_product(labelling, call, call["mat1"], call["mat2"], call["self"])


def mm(labelling: Labelling, call: Call) -> None:
    _matrix_product(labelling, call, call["self"], call["mat2"], None)


def _matrix_product(labelling: Labelling, call: Call, source: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if not labelling.is_weight(weight) or labelling.is_parameter(source):
        unknown(labelling, call)
        return
    labels = labelling.channel_labels(source, 1)
    labelling.parameter_block(weight, 0).reads = labelling.parameter_block(weight, 1).writes = True
    written = labelling.parameter_nodes(weight, 1)
    labelling.graph.tie(labelling.parameter_nodes(weight, 0), labels)
    if bias is not None:
        _tie_bias(labelling, bias, written)
    labelling.multiplied(weight, "linear", source.size(0))
    labelling.set(call.out, written.reshape(1, -1))


def _tie_bias(labelling: Labelling, bias: Tensor, nodes: Tensor) -> None:
    if labelling.is_parameter(bias) and bias.dim() == 1:
        labelling.graph.tie(labelling.parameter_nodes(bias, 0), nodes)
    else:
        labelling.graph.fix(nodes, f"added to a computed bias{labelling.where()}")


def embedding(labelling: Labelling, call: Call) -> None:
    weight = call["weight"]
    if not labelling.is_whole(weight):
        unknown(labelling, call)
        return
    labelling.graph.fix(labelling.parameter_nodes(weight, 0), f"its rows are asked for by number{labelling.where()}")
    written = labelling.parameter_block(weight, 1)
    written.writes = True
    labelling.set(call.out, written.nodes.reshape([1] * (call.out.dim() - 1) + [-1]))
