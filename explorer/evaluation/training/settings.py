"""Settings: how a network is trained, apart from how long and on what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from explorer.data.task import Task
from explorer.utils.checks import checked_number
from spaces import PruningError, unknown

__all__ = ["OPTIMIZERS", "PRECISIONS", "Settings"]


@dataclass(frozen=True)
class Settings:
    """How a network is trained; the defaults are those of dense networks.

    Parameters
    ----------
    optimizer
        A key of `OPTIMIZERS`.
    learning_rate
        At the beginning of every stretch of epochs; falls to 0 along half a cosine.
    weight_decay
        As torch's SGD and AdamW define it.
    momentum
        Of SGD (Nesterov's); AdamW has its own.
    label_smoothing
        Of cross-entropy, in [0, 1); other losses have none.
    distillation
        Weight of the distance to the teacher's outputs in the loss, in [0, 1]; the task's own loss has the rest.
    temperature
        By which logits are divided before they are compared with the teacher's.
    ema
        Decay a step of the averaged weights that are evaluated in place of the last ones, in [0, 1); 0 for none.
    precision
        A key of `PRECISIONS`.
    """

    optimizer: str = "sgd"
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.0
    distillation: float = 0.0
    temperature: float = 4.0
    ema: float = 0.0
    precision: str = "float32"

    @classmethod
    def of(cls, section: Mapping[str, Any], key: str = "finetuning") -> Settings:
        """Return the settings that a section of a configuration gives; what it gives of anything else is left out.

        Raises
        ------
        PruningError
            If a value is not one of those allowed.
        """
        for name, allowed in (("optimizer", OPTIMIZERS), ("precision", PRECISIONS)):
            if name in section and str(section[name]) not in allowed:
                raise unknown(f"{key}.{name}", str(section[name]), allowed)
        for name, rule in _RULES.items():
            if name in section:
                checked_number(f"{key}.{name}", section[name], **{"least": 0, "whole": False} | rule)
        for name, words in _SHARES.items():
            if name in section and (section[name] > 1 or (section[name] == 1 and words == "[0, 1)")):
                raise PruningError(f"{key}.{name}: {section[name]!r}, allowed is a number in {words}")
        known = [field.name for field in fields(cls)]
        return cls(**{name: value for name, value in section.items() if name in known})

    def check(self, task: Task, key: str = "finetuning") -> None:
        """Check that a task's loss knows what the settings ask for.

        Raises
        ------
        PruningError
            If it has no label smoothing.
        """
        if self.label_smoothing and task.loss is not F.cross_entropy:
            raise PruningError(f"{key}.label_smoothing: {self.label_smoothing}, allowed is 0 for this task's loss")


_RULES: Mapping[str, dict[str, Any]] = {
    "learning_rate": {"above": True},
    "weight_decay": {},
    "momentum": {"above": True},
    "label_smoothing": {},
    "distillation": {},
    "temperature": {"above": True},
    "ema": {},
}
_SHARES = {"label_smoothing": "[0, 1)", "distillation": "[0, 1]", "ema": "[0, 1)"}


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


OPTIMIZERS: Mapping[str, Callable[[Iterable[nn.Parameter], Settings], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "sgd": _sgd,
}
"""From a configuration's name to what makes an optimizer of parameters and settings."""


def _half(device: torch.device, *, enabled: bool = True) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


PRECISIONS: Mapping[str, Callable[[torch.device], torch.autocast]] = {
    "auto": lambda device: _half(device, enabled=device.type == "cuda" and torch.cuda.is_bf16_supported()),
    "bfloat16": _half,
    "float32": lambda device: _half(device, enabled=False),
}
"""From a configuration's name to the context that products are computed in on a device; weights stay as they are."""
