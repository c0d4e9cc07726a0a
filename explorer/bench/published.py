"""A ResNet on cifar10-jpeg, with weights that are given: what several benchmarks search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from explorer.problem import Problem
from explorer.utils.fingerprints import fingerprint
from spaces import PruningError

__all__ = ["key_of", "published"]

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


def key_of(problem: Problem, *decides: Any) -> str:
    """Return six letters for names of files, which differ where a problem's weights, data or space do, or `decides`."""
    made_of = [problem.meter.model, problem.meter.validation, problem.pruner.scores, problem.inherited.calibration]
    return fingerprint(made_of, [problem.space.network.identity, problem.space.axes, *decides])[:6]
