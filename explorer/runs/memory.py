"""The memory that a run of a large model takes, said before it begins."""

from __future__ import annotations

import os
from contextlib import suppress

import torch
from torch import nn

__all__ = ["memory_needed"]

# smaller models fit wherever torch does
_LARGE = 1 << 30


def memory_needed(model: nn.Module) -> str | None:
    """Return a sentence on the memory that a run of a large model takes at most, None for models below 1 GiB.

    Scores take four bytes a weight. Beside them there are at most the dense network, a second one, which verifies the
    first or is what sub-networks inherit, and a sub-network or the file of the scores. Activations come on top.
    """
    parameters = list(model.parameters())
    weights = sum(tensor.nbytes for tensor in (*parameters, *model.buffers()))
    if weights < _LARGE or any(tensor.is_cuda for tensor in parameters):
        return None
    scores = torch.float32.itemsize * sum(tensor.numel() for tensor in parameters)
    needed = 2 * weights + scores + max(weights, scores)
    line = (
        f"{sum(tensor.numel() for tensor in parameters) / 1e9:.2f} billion parameters, {weights / 2**30:.1f} GiB: the "
        f"run takes up to {needed / 2**30:.0f} GiB of memory beside activations"
    )
    # not every system says what it has
    with suppress(AttributeError, ValueError, OSError):
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return f"{line}, this machine has {there / 2**30:.0f} GiB"
    return line
