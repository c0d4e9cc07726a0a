"""Surroundings: the versions and the machine that a run's numbers were made with."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from explorer.utils.hardware import processor, version_of

if TYPE_CHECKING:
    import torch

__all__ = ["hardware", "versions"]

_PACKAGES = ("pruning-spaces", "torch", "numpy", "optuna", "pandas")


def versions() -> dict[str, str | None]:
    """Return the versions of what makes the numbers, by package."""
    return {"python": platform.python_version()} | {package: version_of(package) for package in _PACKAGES}


def hardware(device: torch.device) -> dict[str, Any]:
    """Return what the processor and the device are called, and how many cores there are."""
    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return {"processor": processor(), "cores": os.cpu_count(), "device": name}
