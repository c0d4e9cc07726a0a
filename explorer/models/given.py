"""Models as a caller gives them: a module, what makes one, or its import path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from explorer.utils.instantiate import called, locate
from spaces.errors import PruningError

__all__ = ["import_path", "module_of"]


def import_path(factory: Callable[..., Any]) -> str | None:
    """Return the dotted path a factory can be imported by; None for a lambda, a local function or ``__main__``."""
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", "<")
    return None if module in (None, "__main__") or "<" in name or "." in name else f"{module}.{name}"


def module_of(model: nn.Module | Callable[[], nn.Module] | str) -> nn.Module:
    """Return a module, made by its factory where that or its import path is given.

    Raises
    ------
    PruningError
        If it is none of these, or the factory gives no module.
    """
    if isinstance(model, nn.Module):
        return model
    if not callable(model) and not isinstance(model, str):
        raise PruningError(
            f"model: a {type(model).__name__}, allowed is a torch module, or a factory or its import path"
        )
    module = called("model", locate("model", model) if isinstance(model, str) else model, {})
    if not isinstance(module, nn.Module):
        raise PruningError(f"model: {model!r} gives a {type(module).__name__}, not a torch module")
    return module
