"""How a module is borrowed: run, its modes and state given back, its device found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch import nn

__all__ = [
    "device_of",
    "modes_restored",
    "run",
    "tensors_of",
    "without_fused_layers",
    "without_fused_recurrence",
]


def run(model: nn.Module, example: Any, **more: Any) -> Any:
    """Return the model's output on a tensor, a tuple of positional or a mapping of keyword arguments, and `more`.

    Models of transformers return no keys and values for a next token unless they are asked to: nothing that is explored
    reads them.
    """
    more = {"use_cache": False, **more} if _returns_cache(model) else more
    if isinstance(example, Mapping):
        return model(**{**more, **example})
    return model(*example, **more) if isinstance(example, tuple) else model(example, **more)


def _returns_cache(model: nn.Module) -> bool:
    config = getattr(model, "config", None)
    return getattr(config, "use_cache", None) is True and "use_cache" in signature(model.forward).parameters


@contextmanager
def modes_restored(model: nn.Module) -> Iterator[None]:
    """Give every module its training flag back: `model.train()` would thaw what a user froze."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter; the CPU for a model without any."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers by name, those not in a state too."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@contextmanager
def without_fused_layers() -> Iterator[None]:
    """Keep torch's transformer layers from one kernel that hides every product, and that zeroes what is padded."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def without_fused_recurrence(model: nn.Module) -> Iterator[None]:
    """Keep torch's LSTMs from one kernel that hides every product."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    if any(isinstance(module, nn.LSTM) for module in model.modules()):
        backend.enabled = False
    try:
        yield
    finally:
        backend.enabled = before
