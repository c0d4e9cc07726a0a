"""What of a model's output is used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from explorer.tracing.tape import tensors_in
from spaces import PruningError

__all__ = ["Outputs", "counting"]

Outputs = Callable[[Any], Any] | str | int | Sequence[str | int] | None
"""A key, attribute or position of an output, several of them, a function of the output, or None for all of it."""


def counting(output: Any, outputs: Outputs) -> Any:
    """Return the part of a model's output that is used.

    Raises
    ------
    PruningError
        If there is no such part, or no tensor in it.
    """
    if outputs is None:
        return output
    if callable(outputs):
        chosen, shown = outputs(output), getattr(outputs, "__name__", "the function")
    else:
        keys = [outputs] if isinstance(outputs, str | int) else list(outputs)
        chosen, shown = [_part(output, key) for key in keys], f"{outputs!r}"
    if not tensors_in(chosen):
        raise PruningError(f"outputs: {shown} names no tensor of the model's output, allowed: {_allowed(output)}")
    return chosen


def _part(output: Any, key: str | int) -> Any:
    if isinstance(key, str):
        return output.get(key) if isinstance(output, Mapping) else getattr(output, key, None)
    return output[key] if isinstance(output, tuple | list) and -len(output) <= key < len(output) else None


def _allowed(output: Any) -> str:
    """Return the keys that hold tensors."""
    if isinstance(output, Mapping):
        parts: Any = output.items()
    elif isinstance(output, tuple | list):
        parts = enumerate(output)
    else:
        parts = getattr(output, "__dict__", {}).items()
    names = [str(key) for key, part in parts if tensors_in(part)]
    return ", ".join(names) or "none, it is one tensor"
