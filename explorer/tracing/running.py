"""How a model is run to learn of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["run", "without_fused_layers"]


def run(model: nn.Module, example: Any) -> Any:
    """Return the model's output on a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


@contextmanager
def without_fused_layers() -> Iterator[None]:
    """Keep torch's transformer layers from one kernel that hides every product, and that zeroes what is padded."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
