"""ResNet-20 on cifar10-jpeg, with weights that are given: what several benchmarks search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spaces import PruningError

__all__ = ["resnet20"]

# with the statistics that the weights were trained with
_MODEL = ("model=resnet20", "data=cifar10", "model.mean=[.485,.456,.406]", "model.std=[.229,.224,.225]")


def resnet20(bench: str, options: Mapping[str, Any]) -> list[str]:
    """Return the overrides of conf/run.yaml that name it.

    Parameters
    ----------
    bench
        The benchmark, a section of conf/bench.yaml.
    options
        That section, with ``data`` and ``weights``.

    Raises
    ------
    PruningError
        If data or weights are not given.
    """
    needed = {"data": "the folder of cifar10-jpeg", "weights": "the file of ResNet-20's weights"}
    for key, what in needed.items():
        if options[key] is None:
            raise PruningError(f"{bench}.{key}: not given, needed is {what}")
    return [*_MODEL, f"data.path={options['data']}", f"model.weights={options['weights']}"]
