"""What a model's run changes, remembered and put back."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["left_as_it_was", "surroundings_as_they_were"]

# a container of more entries is data and no state
_MANY = 10_000


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Undo what a model's run changes in it: modes, attributes, hooks, tensors, random generators that it holds.

    Of attributes the contents of containers are restored too, and the attributes of objects, such as a configuration
    that several modules share.
    """
    with _restored([*_parts(model), *_tensors(model)]):
        yield


@contextmanager
def surroundings_as_they_were(model: nn.Module) -> Iterator[None]:
    """Undo what the runs of a model and of its copies change around it: class attributes, global random states."""
    with _restored([*_classes(model), *_generators()]):
        yield


@contextmanager
def _restored(restores: list[Callable[[], None]]) -> Iterator[None]:
    try:
        yield
    finally:
        for restore in restores:
            restore()


def _parts(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Yield what restores the attributes of all modules, and what is in them."""
    seen: set[int] = set()
    for module in model.modules():
        seen.add(id(module))
        yield _table(vars(module))
        for value in vars(module).values():
            yield from _contents(value, seen, objects=True)


def _contents(value: Any, seen: set[int], objects: bool) -> Iterator[Callable[[], None]]:
    """Yield what restores a container with the containers in it, or the attributes of an object."""
    if isinstance(value, torch.Generator):
        yield _state(value.get_state(), value.set_state)
    if id(value) in seen or isinstance(value, nn.Module | torch.Tensor | type | str | bytes):
        return
    if isinstance(value, dict | list | set | deque | tuple):
        seen.add(id(value))
        if len(value) > _MANY:
            return
        if not isinstance(value, tuple):
            yield _table(value) if isinstance(value, dict) else _sequence(value)
        for part in value.values() if isinstance(value, dict) else value:
            yield from _contents(part, seen, objects)
    elif objects and type(getattr(value, "__dict__", None)) is dict and not callable(value):
        seen.add(id(value))
        yield _table(vars(value))
        for part in vars(value).values():
            yield from _contents(part, seen, objects=False)


def _table(table: MutableMapping[Any, Any]) -> Callable[[], None]:
    before = list(table.items())

    def restore() -> None:
        now = list(table.items())
        if len(now) != len(before) or any(a is not c or b is not d for (a, b), (c, d) in zip(now, before, strict=True)):
            table.clear()
            table.update(before)

    return restore


def _sequence(values: Any) -> Callable[[], None]:
    before = list(values)

    def restore() -> None:
        now = list(values)
        if len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True)):
            values.clear()
            (values.update if isinstance(values, set) else values.extend)(before)

    return restore


def _classes(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Yield what restores the attributes of the modules' classes but torch's own."""
    kinds = {kind for module in model.modules() for kind in type(module).__mro__}
    for kind in kinds:
        if not kind.__module__.startswith(("torch.", "builtins")):
            yield _class(kind)


def _class(kind: type) -> Callable[[], None]:
    before = dict(vars(kind))

    def restore() -> None:
        for name in [name for name in vars(kind) if name not in before]:
            delattr(kind, name)
        for name, value in before.items():
            if vars(kind).get(name, restore) is not value:
                setattr(kind, name, value)

    return restore


def _tensors(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Yield what restores the values of parameters and buffers."""
    for tensor in (*model.parameters(), *model.buffers()):
        if not tensor.is_inference():
            yield _values(tensor)


def _values(tensor: torch.Tensor) -> Callable[[], None]:
    value, version = tensor.detach().clone(), tensor._version

    def restore() -> None:
        # a buffer may have been written to past autograd
        if tensor._version != version or not isinstance(tensor, nn.Parameter):
            with torch.no_grad():
                tensor.copy_(value)

    return restore


def _generators() -> Iterable[Callable[[], None]]:
    """Return what restores the states of all global random generators of the processor."""
    return (
        _state(torch.get_rng_state(), torch.set_rng_state),
        _state(random.getstate(), random.setstate),
        _state(np.random.get_state(), np.random.set_state),  # noqa: NPY002 - a model's code may use it
    )


def _state(state: Any, restore: Callable[[Any], Any]) -> Callable[[], None]:
    return lambda: restore(state)
