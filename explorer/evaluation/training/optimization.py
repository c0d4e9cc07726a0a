"""Optimization: the optimizer and the precision that settings name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import nn

from explorer.evaluation.settings import Settings

__all__ = ["optimizer_of", "precision_of"]


def optimizer_of(parameters: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    """Return the optimizer of parameters that settings name."""
    return _OPTIMIZERS[settings.optimizer](parameters, settings)


def precision_of(settings: Settings, device: torch.device) -> torch.autocast:
    """Return the context that products are computed in on a device; weights stay as they are."""
    return _PRECISIONS[settings.precision](device)


def _sgd(parameters: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters,
        settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
        nesterov=True,
    )


def _adamw(parameters: Iterable[nn.Parameter], settings: Settings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)


_OPTIMIZERS: Mapping[str, Callable[[Iterable[nn.Parameter], Settings], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}


def _half(device: torch.device, *, enabled: bool = True) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


_PRECISIONS: Mapping[str, Callable[[torch.device], torch.autocast]] = {
    "auto": lambda device: _half(device, enabled=device.type == "cuda" and torch.cuda.is_bf16_supported()),
    "bfloat16": _half,
    "float32": lambda device: _half(device, enabled=False),
}
