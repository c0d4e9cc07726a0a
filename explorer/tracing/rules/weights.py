"""Rules of weights that are computed from parameters: scaled row by row, standardised, masked.

What is computed entry by entry, or from an entry and statistics of its row, is sliced where the parameter is. Rows of
a statistic run over the inputs that are kept.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call
from explorer.tracing.labelling import Labelling
from explorer.tracing.reductions import REDUCING
from explorer.tracing.rules.unknown import unknown

__all__ = [
    "combined_parameters",
    "divided_by_norm",
    "flattened_rows",
    "reduced_parameter",
    "through_rows",
    "weight_norm",
]

_NORMS = ("linalg_vector_norm", "norm")
_VIEWS = ("_reshape_alias", "_unsafe_view", "clone", "reshape", "unsqueeze", "view")


def combined_parameters(labelling: Labelling, call: Call) -> bool:
    """Tie parameters that are combined entry by entry; tell whether nothing else is in it."""
    tensors = [tensor for tensor in call.tensors if tensor.dim()]
    if not isinstance(call.out, Tensor) or not all(map(labelling.is_parameter, tensors)):
        return False
    whole = [tensor for tensor in tensors if tensor.shape == call.out.shape and labelling.is_trained(tensor)]
    # a statistic of the rows has dimensions that are none of the weight's
    whole.sort(key=lambda tensor: not labelling.is_weight(tensor))
    if not whole or call.out.dim() < 2 or any(call.out is tensor for tensor in tensors):
        return False
    first = whole[0]
    for other in tensors:
        offset = call.out.dim() - other.dim()
        for dim, part in enumerate(labelling.parts(other)):
            both = part is not None and labelling.parts(first)[dim + offset] is not None
            if other is not first and both and other.size(dim) > 1:
                nodes = labelling.parameter_nodes(other, dim)
                labelling.graph.tie(nodes, labelling.parameter_nodes(first, dim + offset))
        if other is not first and other.shape == call.out.shape and labelling.is_weight(other):
            labelling.graph.companions.append((labelling.parameter_name(first), labelling.parameter_name(other)))
    labelling.computed(call.out, first)
    return True


def reduced_parameter(labelling: Labelling, call: Call, dims: list[int]) -> bool:
    """Follow statistics of the rows, or the columns, of a weight; tell whether they are such."""
    source = call["self"]
    if not labelling.is_weight(source) or not labelling.is_trained(source) or source.dim() < 2:
        return False
    over = {dim % source.dim() for dim in dims}
    own = labelling.parts(source)
    if call.name in _NORMS and len(over) == source.dim() and labelling.is_whole(source):
        # what is masked is zero, in rows and in columns, and adds nothing
        for dim in (0, 1):
            labelling.parameter_block(source, dim).reads = True
        return True
    channels = [dim for dim in over if (part := own[dim]) is not None and part.dim < 2 and source.size(dim) > 1]
    if len(channels) != 1:
        return False
    labelling.reduces(call, channels[0], labelling.parameter_nodes(source, channels[0]))
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            same = out.dim() == source.dim()
            parts = [None if dim in over else part for dim, part in enumerate(labelling.parts(source))]
            kept = tuple(part for dim, part in enumerate(parts) if same or dim not in over)
            labelling.computed(out, source, kept)
    return True


def flattened_rows(labelling: Labelling, call: Call, weight: Tensor) -> bool:
    """Follow a view of a weight whose rows became vectors, behind dimensions of length 1; tell whether it is one."""
    if call.name not in _VIEWS or weight.dim() < 3 or not (labelling.is_trained(weight) and labelling.is_whole(weight)):
        return False
    # kernels of one entry have rows in a matrix too, which is a linear layer's weight
    return (weight[0, 0].numel() > 1 or call.out.dim() == 3) and _are_rows(labelling, weight, call.out)


def _are_rows(labelling: Labelling, weight: Tensor, out: Tensor) -> bool:
    rows = (weight.size(0), weight[0].numel())
    found = out.dim() > 1 and out.shape[-2:] == rows and out.numel() == weight.numel()
    if found:
        labelling.flattened[out] = weight
    return found


def through_rows(labelling: Labelling, call: Call, rows: Tensor) -> None:
    """Follow what is computed of a weight's flattened rows: statistics, scaled rows, the weight's own shape again.

    Statistics run over the inputs that are kept.
    """
    weight = labelling.flattened[rows]
    if not _of_rows(labelling, call, rows, weight):
        unknown(labelling, call)


def _of_rows(labelling: Labelling, call: Call, rows: Tensor, weight: Tensor) -> bool:
    name, out = call.name, next(leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor))
    others = [tensor for tensor in call.tensors if tensor is not rows and tensor.dim()]
    if name in _VIEWS and out.shape == weight.shape:
        labelling.computed(out, weight)
        return True
    if name in _VIEWS:
        return _are_rows(labelling, weight, out)
    last = rows.dim() - 1
    if name == "native_batch_norm":
        if not call["training"] or last != 2 or not all(map(labelling.is_parameter, others)):
            return False
        for scale in others:
            labelling.graph.tie(labelling.parameter_nodes(scale, 0), labelling.parameter_nodes(weight, 0))
        _over_rows(labelling, call, last, weight)
        return _are_rows(labelling, weight, out)
    if name in REDUCING and call["dim"] in (last, -1, [last], [-1]):
        _over_rows(labelling, call, last, weight)
        row = labelling.parts(weight)[0]
        for leaf in tree_leaves(call.out):
            if isinstance(leaf, Tensor):
                place = leaf.dim() - 1 - (leaf.dim() == rows.dim())
                labelling.computed(leaf, weight, tuple(row if dim == place else None for dim in range(leaf.dim())))
        return True
    if torch.Tag.pointwise in call.func.tags and out.shape == rows.shape:
        for other in others:
            scales = labelling.is_parameter(other) and other.dim() > 1 and other.size(-1) == 1
            if not scales or labelling.parts(other)[-2] is None:
                return False
            labelling.graph.tie(labelling.parameter_nodes(other, other.dim() - 2), labelling.parameter_nodes(weight, 0))
        return _are_rows(labelling, weight, out)
    return False


def _over_rows(labelling: Labelling, call: Call, axis: int, weight: Tensor) -> None:
    inputs = labelling.parameter_nodes(weight, 1)
    labelling.reduces(call, axis, inputs.repeat_interleave(weight[0, 0].numel()))


def weight_norm(labelling: Labelling, call: Call) -> None:
    """Tie the lengths of a weight's rows to them; what is computed is the weight with other lengths."""
    weight, lengths, dim = call["v"], call["g"], call["dim"] % call["v"].dim()
    if not labelling.is_weight(weight) or not labelling.is_parameter(lengths):
        raise ValueError("the weight is computed")
    labelling.graph.tie(labelling.parameter_nodes(lengths, dim), labelling.parameter_nodes(weight, dim))
    labelling.graph.normed.append((labelling.parameter_name(weight), dim, labelling.parameter_name(lengths)))
    for out, source in zip(call.out, (weight, lengths), strict=True):
        labelling.computed(out, source)


def divided_by_norm(labelling: Labelling, source: Tensor, u: Tensor, v: Tensor, out: Tensor, dim: int) -> None:
    """Follow a weight that was divided by its spectral norm, with the vectors that torch keeps for it.

    The norm is that of the kept rows and columns, so that masking empties the rows too.

    Parameters
    ----------
    source
        The weight.
    u, v
        The vectors of its rows, along dimension `dim`, and of all other dimensions flattened.
    out
        The weight divided by its norm.
    dim
        0 or 1.
    """
    if not labelling.is_whole(source) or None in (labelling.name_of(u), labelling.name_of(v)):
        labelling.fix(source, f"divided by its spectral norm{labelling.where()}")
        return
    rows, rest = labelling.parameter_block(source, dim), [d for d in range(source.dim()) if d != dim]
    columns = labelling.parameter_block(source, 1 - dim)
    spread = columns.nodes.reshape([-1 if d == 1 - dim else 1 for d in rest])
    labelling.graph.tie(labelling.parameter_nodes(u, 0), rows.nodes)
    labelling.graph.tie(labelling.parameter_nodes(v, 0), spread.expand([source.size(d) for d in rest]).reshape(-1))
    rows.reads = columns.reads = True
    labelling.computed(out, source)
