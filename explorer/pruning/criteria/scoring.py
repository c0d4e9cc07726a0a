"""Scores of all weights and channels of a network, computed once and shared by all candidates."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from explorer.data import Batch
from explorer.data.task import Task
from explorer.pruning.criteria.options import Options
from explorer.pruning.criteria.subject import Subject
from spaces import Network, PruningError

__all__ = ["Scores", "score"]


@dataclass(frozen=True, eq=False)
class Scores:
    """What the weights and channels of a dense network are worth; all are finite and 0 or more.

    Parameters
    ----------
    weights
        A score for each entry of the weight of every layer, by `spaces.Layer.weight`: of the weight's shape, on the
        model's device. Empty if the criterion scores channels only.
    channels
        A score for every atom of every unit: float64 ``[atoms]`` on the CPU. The least are removed first.
    """

    weights: Mapping[str, Tensor]
    channels: Mapping[str, Tensor]


def score(
    model: nn.Module,
    network: Network,
    criterion: str | Mapping[str, Any] | Options = "l1",
    *,
    batches: Sequence[Batch] = (),
    task: Task | None = None,
) -> Scores:
    """Return the scores of a network by a criterion.

    Parameters
    ----------
    model
        The dense network; it is left as it was, and so is the global random state.
    network
        What `trace` said of it.
    criterion
        A name of `CRITERIA`, or a mapping with ``name`` and options, see `Options`.
    batches
        Unaugmented training batches on the model's device, all of which are used; only criteria that need data read
        them.
    task
        Whose loss is differentiated; only criteria that need gradients ask for it.

    Raises
    ------
    PruningError
        If the criterion or an option is unknown, data is needed and not given, a gradient cannot be had, or a score is
        infinite or not a number.

    Examples
    --------
    >>> from explorer.tracing import trace
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> scores = score(model, trace(model, torch.zeros(1, 2)), "l1")
    >>> {name: list(value.shape) for name, value in scores.weights.items()}
    {'0.weight': [3, 2], '2.weight': [1, 3]}
    >>> {name: list(value.shape) for name, value in scores.channels.items()}
    {'0': [3]}
    """
    options = Options.of(criterion).located()
    row = options.row
    subject = Subject(model, network, options, batches, task)
    if row.needs != "nothing" and not batches:
        raise PruningError(
            f"criterion: {row.name} needs {row.needs}, and there are no training batches to compute them"
        )
    if row.needs == "gradients" and task is None:
        raise PruningError(f"criterion: {row.name} needs gradients, and there is no task whose loss has them")
    weights: dict[str, Tensor] = {}
    sums = subject.sums()
    if row.weights is not None:
        layers = {layer.weight for layer in network.layers}
        for name, values in _function(row.weights)(subject):
            if name in layers:
                dense = subject.tensors[name]
                # squares of half precision numbers are out of its range
                dtype = torch.float64 if dense.dtype == torch.float64 else torch.float32
                weights[name] = _checked(row.name, name, values.to(dense.device, dtype))
            if row.channels is None:
                sums.add_weight(name, values)
    channels = sums.scores() if row.channels is None else _function(row.channels)(subject)
    return Scores(weights, {unit: _checked(row.name, unit, values) for unit, values in channels.items()})


def _function(name: str) -> Callable[[Subject], Any]:
    """Return a function of this package by the name that the catalogue has for it."""
    module, _, function = name.partition(".")
    return getattr(import_module(f"explorer.pruning.criteria.{module}"), function)


def _checked(criterion: str, name: str, values: Tensor) -> Tensor:
    least, greatest = (float(bound) for bound in values.aminmax()) if values.numel() else (0.0, 0.0)
    if not (least >= 0 and math.isfinite(greatest)):
        line = f"criterion: {criterion} scores {name} from {least:g} to {greatest:g}, allowed are finite numbers >= 0"
        raise PruningError(line)
    return values
