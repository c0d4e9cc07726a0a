"""Rules of the operations with weights: convolutions, matrix products, norms, embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from explorer.tracing.rules.calls import Call, unknown

if TYPE_CHECKING:
    from explorer.tracing.recorder import Recorder

__all__ = ["addmm", "batch_norm", "convolution", "embedding", "mm"]


def batch_norm(rec: Recorder, call: Call) -> None:
    source = call["input"]
    labels = rec.channel_labels(source, 1)
    out = call.out[0]
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = call[name]
        if tensor is None:
            continue
        # an instance norm repeats them for every input
        rec.graph.tie(rec.parameter_nodes(tensor, 0) if rec.is_parameter(tensor) else rec.labels(tensor), labels)
    rec.set(out, labels.reshape([1, -1] + [1] * (out.dim() - 2)))


def convolution(rec: Recorder, call: Call) -> None:
    source, weight, bias, groups = call["input"], call["weight"], call["bias"], call["groups"]
    if not rec.is_whole(weight) or (call["transposed"] and groups not in (1, source.size(1))):
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
    kind = "conv_transposed" if call["transposed"] else "conv"
    rec.multiplied(weight, kind, positions, groups)
    rec.set(call.out, written.nodes.reshape([1, -1] + [1] * (call.out.dim() - 2)))


def addmm(rec: Recorder, call: Call) -> None:
    _matrix_product(rec, call, call["mat1"], call["mat2"], call["self"])


def mm(rec: Recorder, call: Call) -> None:
    _matrix_product(rec, call, call["self"], call["mat2"], None)


def _matrix_product(rec: Recorder, call: Call, source: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    if not rec.is_weight(weight) or rec.is_parameter(source):
        unknown(rec, call)
        return
    labels = rec.channel_labels(source, 1)
    rec.parameter_block(weight, 0).reads = rec.parameter_block(weight, 1).writes = True
    written = rec.parameter_nodes(weight, 1)
    rec.graph.tie(rec.parameter_nodes(weight, 0), labels)
    if bias is not None:
        _tie_bias(rec, bias, written)
    rec.multiplied(weight, "linear", max(1, source.size(0) // rec.batch))
    rec.set(call.out, written.reshape(1, -1))


def _tie_bias(rec: Recorder, bias: Tensor, nodes: Tensor) -> None:
    if rec.is_parameter(bias) and bias.dim() == 1:
        rec.graph.tie(rec.parameter_nodes(bias, 0), nodes)
    else:
        rec.graph.fix(nodes, f"added to a computed bias{rec.where()}")


def embedding(rec: Recorder, call: Call) -> None:
    weight = call["weight"]
    if not rec.is_whole(weight):
        unknown(rec, call)
        return
    rec.graph.fix(rec.parameter_nodes(weight, 0), f"its rows are asked for by number{rec.where()}")
    written = rec.parameter_block(weight, 1)
    written.writes = True
    rec.set(call.out, written.nodes.reshape([1] * (call.out.dim() - 1) + [-1]))
