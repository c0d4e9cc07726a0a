"""Memory that runs out: said in one line, and given back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from spaces import PruningError, first_line

__all__ = ["is_out_of_memory", "within_memory"]

T = TypeVar("T")


def within_memory(work: Callable[[], T]) -> T:
    """Return what `work` returns; what it held on a GPU is given back where its memory ran out.

    Raises
    ------
    PruningError
        If memory runs out.
    """
    try:
        return work()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        cause = error.__cause__ or error
        # Python's own says nothing
        reason = first_line(cause)[:200] or type(cause).__name__
    # only here are the frames gone that hold the tensors
    torch.cuda.empty_cache()
    raise PruningError(f"out of memory: {reason}")


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error, or what it was raised from, says that memory ran out."""
    causes = (error, error.__cause__)
    # on a CPU torch raises no class of its own
    return any(isinstance(e, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(e) for e in causes)
