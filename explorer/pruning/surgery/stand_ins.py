"""Modules that stand in a sub-network where no module of the dense model's class can do the work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PLAIN", "ChannelSlice", "Skip", "SmallerAttention", "returned", "swapped"]

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
    adds
        Whether zeros are returned in their place.
    """

    def __init__(self, block: nn.Module, returns: Returns, *, adds: bool = False) -> None:
        super().__init__()
        vars(self).update(_facts(block), training=block.training)
        self.returns, self.adds = returns, adds

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the block's argument in the structure of the block's output."""

        chosen = returned(self.returns, args, kwargs, adds=self.adds)
        return chosen if isinstance(self.returns, tuple) else chosen[0]

    def extra_repr(self) -> str:
        """Return what is returned as ``print(model)`` shows it."""
        return f"returns={self.returns!r}" + ", adds=True" * self.adds


def returned(
    returns: Returns, args: Sequence[Any], kwargs: Mapping[str, Any], *, adds: bool = False
) -> tuple[Any, ...]:
    """Return what a block's skip returns for the block's call, in a tuple also where it is one thing."""
    keys = returns if isinstance(returns, tuple) else (returns,)
    chosen = (None if key is None else args[key] if isinstance(key, int) else kwargs[key] for key in keys)
    return tuple(torch.zeros_like(one) if adds and isinstance(one, Tensor) else one for one in chosen)


def swapped(module: nn.Module, name: str, replacement: nn.Module) -> nn.Module:
    """Put `replacement` in the place called `name` and return the whole module."""
    if not name:
        return replacement
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, replacement)
    return module


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


class SmallerAttention(nn.MultiheadAttention):
    """Torch's attention with fewer heads of the same size, or narrower inputs, which torch cannot express.

    A copy of a dense module becomes one by taking its class; see `explorer.pruning.surgery.attributes`. The
    parameters keep their names. It has no ``bias_k`` and ``add_zero_attn``.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the output and, if asked for, the weights: [N, L, S], or [N, heads, L, S] not averaged."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (tokens.unsqueeze(0) for tokens in (query, key, value))
        elif not self.batch_first:
            query, key, value = (tokens.transpose(0, 1) for tokens in (query, key, value))
        q, k, v = (
            F.linear(tokens, weight, bias).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for tokens, weight, bias in zip((query, key, value), *self._projections(), strict=True)
        )
        mask = self._mask(attn_mask, key_padding_mask, q)
        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            out = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            out = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        out = self.out_proj(out.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights

    def _projections(self) -> tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]:
        """Return the weights and the biases of query, key and value."""
        packed = self.in_proj_weight is not None
        weights = (
            self.in_proj_weight.chunk(3) if packed else (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        )
        return weights, (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)

    def _mask(self, mask: Tensor | None, padding: Tensor | None, q: Tensor) -> Tensor | None:
        """Return what is added to the scores [N, heads, L, S] for both masks; True masks out."""
        found: Tensor | None = None
        if mask is not None:
            found = _added(mask, q)
            found = found if found.dim() == 2 else found.unflatten(0, (-1, self.num_heads))
        if padding is not None:
            unseen = _added(padding, q).reshape(-1, 1, 1, padding.size(-1))
            found = unseen if found is None else found + unseen
        return found


def _added(mask: Tensor, like: Tensor) -> Tensor:
    return (
        torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf")) if mask.dtype == torch.bool else mask
    )
