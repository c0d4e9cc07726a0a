"""Scores that need data, kept so that the jobs of a sweep compute them once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from explorer.data import Batch
from explorer.data.task import Task
from explorer.pruning.criteria.options import Options
from explorer.pruning.criteria.scoring import Scores, score
from explorer.utils.fingerprints import fingerprint
from explorer.utils.modules import device_of
from explorer.utils.tensor_cache import kept_tensors
from spaces import Network

__all__ = ["cached_scores"]


def cached_scores(
    model: nn.Module,
    network: Network,
    options: Options,
    *,
    batches: Sequence[Batch],
    task: Task,
    folder: Path | None,
) -> Scores:
    """Return what `score` does, from a file of an earlier call with the same content if there is one.

    Processes that ask for the same scores at once compute them once: the others wait. A file that is not whole is made
    again. Scores that need no data, those of a user's function, and those by a task whose functions can't be imported,
    are computed at every call.

    Parameters
    ----------
    model, network, options, batches, task
        As `score` takes them.
    folder
        Created if need be; None for no file. A file is named after a hash of the model's class and state, the
        network, the options, the batches, the task's functions and torch's version.

    Raises
    ------
    PruningError
        As `score`, or if the folder can't be written.
    """

    def fresh() -> Scores:
        return score(model, network, options, batches=batches, task=task)

    functions = [_named(function) for function in (task.loss, task.prediction)]
    if folder is None or not options.needs_data or options.function is not None or None in functions:
        return fresh()
    made_of = [model, list(batches), network.identity, functions, str(torch.__version__)]
    key = {"scores": fingerprint(made_of), "criterion": options.to_dict()}
    device = device_of(model)
    return kept_tensors(
        folder,
        key,
        make=fresh,
        tensors=_flat,
        restore=lambda tensors: _scores(tensors, device),
        what="scores",
        again="computed",
    )[0]


def _flat(scores: Scores) -> dict[str, Tensor]:
    parts = {"weights": scores.weights, "channels": scores.channels}
    return {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}


def _scores(tensors: Mapping[str, Tensor], device: torch.device) -> Scores:
    parts: dict[str, dict[str, Tensor]] = {"weights": {}, "channels": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = value.to(device) if part == "weights" else value
    return Scores(**parts)


def _named(function: Callable[..., Any]) -> str | None:
    """Return what tells a function from others if it can be imported, None for anything that may be of one moment."""
    if not isinstance(function, FunctionType):
        return None
    # a decorated function may have the name of another
    there = getattr(sys.modules.get(function.__module__), function.__qualname__, None)
    return fingerprint(function) if there is function else None
