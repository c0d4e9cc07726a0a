"""Caches: the keys and values that a language model of transformers holds, and the channels in them."""

from __future__ import annotations

import copy
import importlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from explorer.tracing.assemble import Atoms, dim_of
from explorer.tracing.graph import varying
from explorer.tracing.labelling import Labelling
from explorer.utils.modules import run, tensors_of
from spaces import Dim, Span, Tensor, first_line

__all__ = ["Context", "Held", "caches", "following", "holds_cache"]

log = logging.getLogger(__name__)

Context = tuple[int, int]
"""Sequences at once, and tokens of each, whose keys and values are held."""

_KINDS = ("keys", "values")


@dataclass(frozen=True)
class Held:
    """What a layer would hold: the module that makes it, its labels, and bytes an entry."""

    module: str
    labels: torch.Tensor
    itemsize: int


def holds_cache(model: nn.Module) -> bool:
    """Tell whether a model is a decoder of transformers, which holds keys and values for a next token."""
    takes = signature(model.forward).parameters.keys()
    config = getattr(model, "config", None)
    return {"use_cache", "past_key_values"} <= takes and getattr(config, "is_encoder_decoder", True) is False


def following(model: nn.Module, labelling: Labelling) -> tuple[Any, Mapping[tuple[int, str], Held]]:
    """Return a cache that holds nothing, for a run that is labelled, and what it notes, by layer and kind."""
    noted: dict[tuple[int, str], Held] = {}

    class Following(importlib.import_module("transformers").DynamicCache):  # type: ignore[misc]
        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            for kind, tensor in zip(_KINDS, (key_states, value_states), strict=True):
                noted[layer_idx, kind] = Held(labelling.module, labelling.labels(tensor), tensor.element_size())
            return key_states, value_states

    return Following(config=model.config), noted


def caches(
    model: nn.Module, example: Any, noted: Mapping[tuple[int, str], Held], atoms: Atoms, context: Context | None
) -> tuple[Context, tuple[Tensor, ...]] | None:
    """Return what is held, as costs count it, and of which context; None where nothing is, or it can't be found out.

    Parameters
    ----------
    model, example
        What ran; it runs once more, without values, at the context.
    noted
        As `following` notes it.
    atoms
        Of the labels.
    context
        By default one sequence as long as the example's.
    """
    if not noted:
        return None
    if context is None:
        context = 1, next(leaf.size(1) for leaf in tree_leaves(example) if _is_tokens(leaf))
    try:
        shapes = _shapes(model, example, context)
    except Exception as error:
        said = first_line(error)[:120] or type(error).__name__
        log.warning("memory: what is held of %d tokens can't be found out, it is no cost (%s)", context[1], said)
        return None
    if shapes.keys() != noted.keys():
        log.warning("memory: the model holds other tensors than keys and values, it is no cost")
        return None
    return context, tuple(_tensor(key[1], noted[key], shapes[key], atoms) for key in sorted(noted))


def _tensor(kind: str, held: Held, shape: torch.Size, atoms: Atoms) -> Tensor:
    """Return a held tensor of two dimensions: all its channels, and what is held of each."""
    along = varying(held.labels)
    others = math.prod(length for dim, length in enumerate(shape) if dim not in along)
    # heads and the channels of each are one dimension: every entry says for itself whose it is
    channels = dim_of(held.labels.reshape(-1).numpy(), atoms)
    return Tensor(f"{held.module}.{kind}", (Dim((Span(None, 0, others),)), channels), held.itemsize, False)


def _shapes(model: nn.Module, example: Any, context: Context) -> dict[tuple[int, str], torch.Size]:
    """Return the shape of every tensor that is held of a context, by layer and kind."""
    cache = importlib.import_module("transformers").DynamicCache(config=model.config)
    tokens = tree_map(
        lambda leaf: torch.empty(context, dtype=leaf.dtype, device="meta") if _is_tokens(leaf) else leaf, example
    )
    empty = {id(tensor): _without_values(tensor) for tensor in tensors_of(model).values()}
    with torch.no_grad():
        run(copy.deepcopy(model, empty).eval(), tokens, use_cache=True, past_key_values=cache)
    return {
        (number, name): value.shape
        for number, layer in enumerate(cache.layers)
        for name, value in vars(layer).items()
        if isinstance(value, torch.Tensor) and value.dim()
    }


def _is_tokens(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.dim() == 2


def _without_values(tensor: torch.Tensor) -> torch.Tensor:
    # shapes are the same in half precision, which some products insist on where there are no values
    dtype = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
    empty = torch.empty_like(tensor, device="meta", dtype=dtype)
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
