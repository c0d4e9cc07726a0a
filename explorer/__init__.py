"""Explore the space of sub-networks that pruning can make out of a trained network.

Examples
--------
::

    study = explorer.explore(model, train_loader, val_loader, space="filter", budget={"flops": 0.5}, trials=64)
    study.frontier
    small = study.best(flops=0.5).build()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import spaces

if TYPE_CHECKING:
    from explorer.api.exploring import explore
    from explorer.api.populations import Populations, population
    from explorer.candidate import Candidate
    from explorer.data.language import language
    from explorer.data.segmentation import segmentation
    from explorer.data.task import Task, classification, regression
    from explorer.export.files import load, save
    from explorer.study import Study
    from explorer.tracing import trace

__all__ = [
    "Candidate",
    "Populations",
    "Study",
    "Task",
    "classification",
    "explore",
    "language",
    "load",
    "population",
    "regression",
    "save",
    "segmentation",
    "trace",
]

if not hasattr(spaces, "PruningSpace"):
    raise ImportError(
        f"explorer needs its own package 'spaces', but {spaces.__file__} shadows it: uninstall that package"
    )

# imported when they are asked for, because torch takes seconds
_HOMES = {
    "Candidate": "explorer.candidate",
    "Populations": "explorer.api.populations",
    "Study": "explorer.study",
    "Task": "explorer.data.task",
    "classification": "explorer.data.task",
    "explore": "explorer.api.exploring",
    "language": "explorer.data.language",
    "load": "explorer.export.files",
    "population": "explorer.api.populations",
    "regression": "explorer.data.task",
    "save": "explorer.export.files",
    "segmentation": "explorer.data.segmentation",
    "trace": "explorer.tracing",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'explorer' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
