"""A ResNet on cifar10-jpeg, with weights that are given: what several benchmarks search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spaces import PruningError

__all__ = ["published"]

# with the statistics that the weights were trained with
_DATA = ("data=cifar10", "model.mean=[.485,.456,.406]", "model.std=[.229,.224,.225]")


def published(bench: str, options: Mapping[str, Any]) -> list[str]:
    """Return the overrides of conf/run.yaml that name it.

    Parameters
    ----------
    bench
        The benchmark, a section of conf/bench.yaml.
    options
        That section, with ``data``, ``weights`` and perhaps ``model``, by default ResNet-20.

    Raises
    ------
    PruningError
        If data or weights are not given.
    """
    needed = {"data": "the folder of cifar10-jpeg", "weights": "the file of the network's weights"}
    for key, what in needed.items():
        if options[key] is None:
            raise PruningError(f"{bench}.{key}: not given, needed is {what}")
    model = f"model={options.get('model', 'resnet20')}"
    return [model, *_DATA, f"data.path={options['data']}", f"model.weights={options['weights']}"]
