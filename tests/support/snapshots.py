"""Everything that a model is and holds, to be compared before and after."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import nn


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Return by a readable path what can change in a model and around it: identities, and values of tensors."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            _record(found, f"{name}.{attribute}", value, 4)
    for kind in {kind for module in model.modules() for kind in type(module).__mro__}:
        for attribute, value in vars(kind).items():
            # a cache of Python's copying
            if attribute != "__slotnames__":
                found[f"{kind.__qualname__}:{attribute}"] = id(value)
    found["torch"], found["python"] = torch.get_rng_state().clone(), random.getstate()
    found["numpy"] = str(np.random.get_state())  # noqa: NPY002
    return found


def _record(found: dict[str, Any], path: str, value: Any, depth: int) -> None:
    found[path] = id(value)
    if isinstance(value, torch.Tensor):
        found[f"{path} values"] = value.detach().clone()
    elif isinstance(value, nn.Module | type | str) or not depth:
        return
    elif isinstance(value, dict):
        found[f"{path} keys"] = list(value)
        for key, part in value.items():
            _record(found, f"{path}[{key!r}]", part, depth - 1)
    elif isinstance(value, list | tuple | set):
        found[f"{path} length"] = len(value)
        for place, part in enumerate(value):
            _record(found, f"{path}[{place}]", part, depth - 1)
    elif type(getattr(value, "__dict__", None)) is dict and not callable(value):
        _record(found, f"{path} attributes", vars(value), depth - 1)


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the paths of what differs."""
    return [path for path in {**before, **after} if not _alike(before.get(path), after.get(path))]


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))
    return a is b or (not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor) and a == b)
