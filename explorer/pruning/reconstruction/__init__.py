"""Reconstruction: the weights that pruning leaves are solved to give what the dense network gave.

Names are imported when they are asked for: `Settings` check a configuration without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from explorer.pruning.reconstruction.reconstructor import Reconstructor, Report
    from explorer.pruning.reconstruction.settings import Settings

__all__ = ["Reconstructor", "Report", "Settings"]

_HOMES = {"Reconstructor": "reconstructor", "Report": "reconstructor", "Settings": "settings"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
