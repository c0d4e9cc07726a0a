"""Decoding: one token more, after the keys and values of a context are held."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from explorer.utils.modules import device_of

__all__ = ["decoding", "next_tokens"]


def next_tokens(sequences: int, device: torch.device) -> dict[str, Tensor]:
    """Return what a model reads of so many sequences to decode a token of each."""
    return {"input_ids": torch.zeros(sequences, 1, dtype=torch.long, device=device)}


def decoding(module: nn.Module, sequences: int, tokens: int) -> Callable[[], object]:
    """Return what decodes a token of each of `sequences`, after `tokens` of them were read, to be timed.

    Parameters
    ----------
    module
        A decoder of transformers, in eval mode. It reads the context once, now.
    sequences, tokens
        The context; every run begins with it.
    """
    device = device_of(module)
    cache = importlib.import_module("transformers").DynamicCache(config=module.config)
    # of the context nothing but keys and values is needed
    last = {"logits_to_keep": 1} if "logits_to_keep" in signature(module.forward).parameters else {}
    context = torch.zeros(sequences, tokens, dtype=torch.long, device=device)
    with torch.inference_mode():
        module(input_ids=context, past_key_values=cache, use_cache=True, **last)
    # a run puts longer tensors in the place of these and leaves them as they are
    before: list[dict[str, Any]] = [dict(vars(layer)) for layer in cache.layers]
    given = next_tokens(sequences, device)

    def once() -> None:
        for layer, state in zip(cache.layers, before, strict=True):
            vars(layer).update(state)
        module(**given, past_key_values=cache, use_cache=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return once
