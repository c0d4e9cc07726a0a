"""Scores that need data, kept so that the jobs of a sweep compute them once."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from explorer.data import Batch
from explorer.data.task import Task
from explorer.pruning.criteria.options import Options
from explorer.pruning.criteria.scoring import Scores, score
from explorer.utils.files import atomic
from explorer.utils.fingerprints import contents
from explorer.utils.modules import device_of
from spaces import Network, PruningError, first_line

__all__ = ["cached_scores"]

log = logging.getLogger(__name__)


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
    again. Scores that need no data, or a task whose functions can't be imported, are computed at every call.

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
    if folder is None or not options.needs_data or None in functions:
        return fresh()
    text = json.dumps([repr(model), network.identity, options.to_dict(), functions, str(torch.__version__)])
    path = folder / f"scores-{_hash(text, _leaves([model.state_dict(), list(batches)]))[:16]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise PruningError(f"the cache of scores {str(folder)!r} can't be written: {error}") from error
    with lock:
        if path.exists():
            try:
                return _load(path, device_of(model))
            except Exception as error:  # whatever is wrong with the file, scoring again mends it
                line = first_line(error) or type(error).__name__
                log.warning("the cached scores %s are computed again: %s", path, line)
        scores = fresh()
        _save(scores, path)
        return scores


def _save(scores: Scores, path: Path) -> None:
    tensors = {f"weights/{name}": value for name, value in scores.weights.items()}
    tensors |= {f"channels/{name}": value for name, value in scores.channels.items()}
    plain = {name: value.cpu().contiguous() for name, value in tensors.items()}
    with atomic(path) as temporary:
        save_file(plain, str(temporary), {"sha256": _hash("", plain.items())})


def _load(path: Path, device: torch.device) -> Scores:
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        if file.metadata().get("sha256") != _hash("", tensors.items()):
            raise PruningError("its checksum is wrong")
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
    return contents(function) if there is function else None


def _leaves(tree: Any) -> Iterable[tuple[str, Any]]:
    leaves, structure = tree_flatten(tree)
    return [(repr(structure), None), *(("", leaf) for leaf in leaves)]


def _hash(text: str, values: Iterable[tuple[str, Any]]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(values, key=lambda pair: pair[0]):
        if not isinstance(value, Tensor):
            digest.update(f"{name} {value!r}".encode())
            continue
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        # as bytes: numpy knows no bfloat16
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
