"""What to do where nothing is known of an operation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call
from explorer.tracing.labelling import Labelling

__all__ = ["unknown"]


def unknown(labelling: Labelling, call: Call) -> None:
    """Fix every channel that goes in, and give the output one fixed label."""
    reason = f"passes through {call.name}, which the tracer cannot follow{labelling.where()}"
    for tensor in call.tensors:
        labelling.fix(tensor, reason)
    node = labelling.graph.node(reason)
    for out in tree_leaves(call.out):
        if isinstance(out, Tensor):
            labelling.set(out, torch.full((1,) * out.dim(), node))
