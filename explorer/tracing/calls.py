"""One executed operation, its arguments by the names in its schema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["Call", "left_pad"]


@dataclass(frozen=True)
class Call:
    """One executed operation: its name without overload, arguments by schema name, and output."""

    func: torch._ops.OpOverload
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any

    def __getitem__(self, name: str) -> Any:
        """Return an argument by its name in the operator's schema, with its default where it was left out."""
        for position, argument in enumerate(self.func._schema.arguments):
            if argument.name == name:
                if position < len(self.args):
                    return self.args[position]
                return self.kwargs.get(name, argument.default_value)
        raise KeyError(name)

    @property
    def tensors(self) -> list[Tensor]:
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]


def left_pad(shape: torch.Size, ndim: int) -> list[int]:
    """Return a shape with dimensions of length 1 put before, as broadcasting does."""
    return [1] * (ndim - len(shape)) + list(shape)
