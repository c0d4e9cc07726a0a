"""Functions of the user's on tensors: called so that what they raise is one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from spaces.errors import PruningError, first_line

__all__ = ["attempted", "described"]


def attempted(what: str, function: Callable[..., Any], *args: Any, told: Any) -> Any:
    """Return what a function of the user's returns; what it raises is said in one line."""
    try:
        return function(*args)
    except Exception as error:
        raise PruningError(
            f"{what} raised {type(error).__name__} on {described(told)} ({first_line(error)[:300]})"
        ) from None


def described(value: Any) -> str:
    """Return the shapes of the tensors in a value, or its type."""
    tensors = [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
    return ", ".join(f"a {t.dtype} tensor of shape {list(t.shape)}" for t in tensors) or type(value).__name__
