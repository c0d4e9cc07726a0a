"""Rules of weights that are computed from parameters: scaled row by row, standardised, masked.

What is computed entry by entry, or from an entry and statistics of its row, is sliced where the parameter is. Rows of
a statistic run over the inputs that are kept.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call
from explorer.tracing.labelling import Labelling

__all__ = ["combined_parameters", "divided_by_norm", "reduced_parameter", "weight_norm"]


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


def weight_norm(labelling: Labelling, call: Call) -> None:
    """Tie the lengths of a weight's rows to them; what is computed is the weight with other lengths."""
    weight, lengths, dim = call["v"], call["g"], call["dim"] % call["v"].dim()
    if not labelling.is_weight(weight) or not labelling.is_parameter(lengths):
        raise ValueError("the weight is computed")
    labelling.graph.tie(labelling.parameter_nodes(lengths, dim), labelling.parameter_nodes(weight, dim))
    labelling.graph.normed.append((labelling.parameter_name(weight), dim))
    for out, source in zip(call.out, (weight, lengths), strict=True):
        labelling.computed(out, source)


def divided_by_norm(labelling: Labelling, module: Any, source: Tensor, out: Tensor) -> bool:
    """Follow a weight that was divided by its spectral norm, with the vectors that torch keeps for it.

    The norm is that of the kept rows and columns, so that masking empties the rows too.
    """
    names = (labelling.name_of(module._u), labelling.name_of(module._v))
    if not labelling.is_whole(source) or None in names:
        return False
    rows, rest = labelling.parameter_block(source, module.dim), [d for d in range(source.dim()) if d != module.dim]
    columns = labelling.parameter_block(source, 1 - module.dim)
    spread = columns.nodes.reshape([-1 if dim == 1 - module.dim else 1 for dim in rest])
    labelling.graph.tie(labelling.parameter_nodes(module._u, 0), rows.nodes)
    every = spread.expand([source.size(dim) for dim in rest]).reshape(-1)
    labelling.graph.tie(labelling.parameter_nodes(module._v, 0), every)
    rows.reads = columns.reads = True
    labelling.computed(out, source)
    return True
