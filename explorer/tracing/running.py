"""How a model is run to learn of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["left_as_it_was", "run", "without_fused_layers"]


def run(model: nn.Module, example: Any) -> Any:
    """Return the model's output on a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what a model does to its modes, attributes and buffers while it runs, such as moving averages."""
    tables: list[tuple[MutableMapping[str, Any], dict[str, Any]]] = [
        (table, dict(table)) for module in model.modules() for table in (vars(module), module._buffers)
    ]
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for table, before in tables:
            table.clear()
            table.update(before)
        with torch.no_grad():
            for buffer, value in values:
                if not buffer.is_inference():
                    buffer.copy_(value)


@contextmanager
def without_fused_layers() -> Iterator[None]:
    """Keep torch's transformer layers from one kernel that hides every product, and that zeroes what is padded."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
