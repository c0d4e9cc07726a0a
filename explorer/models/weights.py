"""Reading a checkpoint into a model, strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from spaces.errors import PruningError, first_line

__all__ = ["load_weights"]

PICKLES = (".pt", ".pth", ".bin", ".ckpt")
NESTED = ("state_dict", "model_state_dict", "model")
# what DataParallel and torch.compile put before every key
PREFIXES = ("module.", "_orig_mod.")


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill `model` from a checkpoint whose keys and shapes are exactly the model's.

    Only ``num_batches_tracked`` may be absent. Nothing is copied unless everything fits.

    Parameters
    ----------
    model
        Changed in place.
    path
        A .safetensors file, or a pickle (.pt, .pth, .bin, .ckpt), which is read with ``weights_only=True``.
        A pickle may hold the tensors under ``state_dict``, ``model_state_dict`` or ``model``.

    Raises
    ------
    PruningError
        One line that starts with ``model.weights:`` if the file can't be read or doesn't fit.
    """
    path = Path(path).expanduser()
    found = _flat(_read(path), path)
    wanted = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    _compare(found, wanted, path)
    model.load_state_dict({**wanted, **found})


def _read(path: Path) -> object:
    if not path.is_file():
        raise PruningError(f"model.weights: there is no file {str(path)!r}")
    if path.suffix != ".safetensors" and path.suffix not in PICKLES:
        allowed = ", ".join((".safetensors", *PICKLES))
        raise PruningError(f"model.weights: {path.name!r} has an unknown suffix. Allowed: {allowed}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise many types of their own
        kind = "safetensors" if path.suffix == ".safetensors" else "a pickle of tensors (weights_only)"
        reason = first_line(error) or type(error).__name__
        raise PruningError(f"model.weights: {str(path)!r} can't be read as {kind}: {reason}") from error


def _flat(content: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict inside a checkpoint, without wrappers' prefixes."""
    while isinstance(content, Mapping) and (inner := [key for key in NESTED if isinstance(content.get(key), Mapping)]):
        content = content[inner[0]]
    entries: dict[Any, Any] = dict(content) if isinstance(content, Mapping) else {}
    tensors = {str(key): value for key, value in entries.items() if isinstance(value, Tensor)}
    if not tensors or len(tensors) < len(entries):
        raise PruningError(f"model.weights: {str(path)!r} holds no state dict (a mapping of names to tensors)")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _compare(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    """Raise for the first key that is missing, has another shape, or isn't the model's."""
    problems = []
    for key, tensor in wanted.items():
        if key not in found:
            if not key.endswith("num_batches_tracked"):
                problems.append(f"lacks {key!r} {list(tensor.shape)}")
        elif found[key].shape != tensor.shape:
            shapes = f"{list(found[key].shape)}, the model needs {list(tensor.shape)}"
            problems.append(f"has {key!r} as {shapes}")
    problems += [
        f"has {key!r} {list(tensor.shape)}, which the model doesn't know"
        for key, tensor in found.items()
        if key not in wanted
    ]
    if problems:
        more = f" (and {len(problems) - 1} more mismatches)" if len(problems) > 1 else ""
        raise PruningError(f"model.weights: {path.name!r} {problems[0]}{more}")
