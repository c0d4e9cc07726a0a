"""How a model is run to learn of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["Uses", "left_as_it_was", "run", "without_fused_layers"]


def run(model: nn.Module, example: Any) -> Any:
    """Return the model's output on a tensor, a tuple of positional or a mapping of keyword arguments."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


class Uses(TorchDispatchMode):
    """Notes in `found` the name of a tensor of the model that is used while the mode is on, if one is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: str | None = None
        self._names = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            self.found = self.found or self._names.get(id(leaf))
        return func(*args, **(kwargs or {}))


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what a model does to its modes, attributes and tensors while it runs, such as moving averages."""
    tables: list[tuple[MutableMapping[str, Any], dict[str, Any]]] = [
        (table, dict(table)) for module in model.modules() for table in (vars(module), module._buffers)
    ]
    tensors = [tensor for tensor in (*model.parameters(), *model.buffers()) if not tensor.is_inference()]
    values = [(tensor, tensor.detach().clone(), tensor._version) for tensor in tensors]
    try:
        yield
    finally:
        for table, before in tables:
            table.clear()
            table.update(before)
        with torch.no_grad():
            for tensor, value, version in values:
                # a buffer may have been written to past autograd
                if tensor._version != version or not isinstance(tensor, nn.Parameter):
                    tensor.copy_(value)


@contextmanager
def without_fused_layers() -> Iterator[None]:
    """Keep torch's transformer layers from one kernel that hides every product, and that zeroes what is padded."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
