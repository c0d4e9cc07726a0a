"""Modules that stand in a sub-network where no module of the dense model's class can do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PLAIN", "ChannelSlice", "Skip", "returned"]

PLAIN = (bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device, torch.Size)
"""Types of attributes that cannot change, so that copies share them."""

Returns = int | str | tuple[int | str | None, ...]


class Skip(nn.Module):
    """What is left of a dropped block: it returns the residual argument and computes nothing.

    Parameters
    ----------
    block
        The block whose place it takes. Its numbers, strings and the like can still be read from the skip, and
        those of the modules below it: ``nn.TransformerEncoder`` asks its first layer's attention for some.
    returns
        Position or keyword of the argument to return, or a tuple of them and None; see `spaces.BlockUnit`.
    """

    def __init__(self, block: nn.Module, returns: Returns) -> None:
        super().__init__()
        vars(self).update(_facts(block), training=block.training)
        self.returns = returns

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the block's argument in the structure of the block's output."""

        chosen = returned(self.returns, args, kwargs)
        return chosen if isinstance(self.returns, tuple) else chosen[0]

    def extra_repr(self) -> str:
        """Return what is returned as ``print(model)`` shows it."""
        return f"returns={self.returns!r}"


def returned(returns: Returns, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a block's call that its skip returns, in a tuple also where it is one."""
    keys = returns if isinstance(returns, tuple) else (returns,)
    return tuple(None if key is None else args[key] if isinstance(key, int) else kwargs[key] for key in keys)


def _facts(module: nn.Module) -> dict[str, Any]:
    """Return the public attributes of a module that cannot change, and below the children's names theirs."""
    own = {name: value for name, value in vars(module).items() if isinstance(value, PLAIN) and name[0] != "_"}
    return own | {name: SimpleNamespace(**_facts(child)) for name, child in module.named_children()}


class ChannelSlice(nn.Module):
    """A leaf that moves channels, between sliced neighbours.

    The leaf's code knows the dense widths only. So its input is spread out to them, zero where a channel was
    removed, and of its output the kept channels are taken.

    Parameters
    ----------
    leaf
        The dense network's own module.
    spread
        For each dense input channel its position in the sliced input, or the number of those where removed.
    keep
        The output channels kept.
    """

    def __init__(self, leaf: nn.Module, spread: Tensor, keep: Tensor) -> None:
        super().__init__()
        self.leaf = leaf
        self.spread: Tensor
        self.keep: Tensor
        # not in the state: that has the dense network's keys, and an export keeps all buffers
        self.register_buffer("spread", spread, persistent=False)
        self.register_buffer("keep", keep, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        zero = x.new_zeros(x.size(0), 1, *x.shape[2:])
        return self.leaf(torch.cat([x, zero], 1).index_select(1, self.spread)).index_select(1, self.keep)
