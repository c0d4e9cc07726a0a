"""The numbers of a configuration of transformers, in lists and in configurations inside it too."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["Place", "at", "changed", "counts_heads", "homes", "places", "scaled", "shown", "value_of"]

Place = tuple[str | int, ...]
"""Attributes and list positions that lead to a number of a configuration."""

# numbers that say nothing of widths
_OTHER = ("token_id", "vocab_size", "vocabulary_size")


def places(config: Any, home: Place = ()) -> Iterator[Place]:
    """Yield the places of a configuration's numbers, those in lists and in configurations inside too."""
    for name, value in vars(config).items():
        if name.startswith("_") or name.endswith(_OTHER):
            continue
        if type(value) is int and value > 0:
            yield (*home, name)
        elif isinstance(value, list) and all(type(entry) is int and entry > 0 for entry in value):
            yield from ((*home, name, index) for index in range(len(value)))
        elif _is_config(value):
            yield from places(value, (*home, name))


def homes(config: Any, home: Place = ()) -> Iterator[Place]:
    """Yield the places of a configuration and of those inside."""
    yield home
    for name, value in vars(config).items():
        if _is_config(value):
            yield from homes(value, (*home, name))


def _is_config(value: Any) -> bool:
    return hasattr(value, "model_type") and hasattr(value, "to_dict")


def at(config: Any, place: Place) -> Any:
    """Return what lies at a place."""
    for step in place:
        config = config[step] if isinstance(step, int) else getattr(config, step)
    return config


def value_of(config: Any, place: Place) -> int | None:
    """Return the number at a place, None where it is left out."""
    return getattr(at(config, place[:-1]), place[-1], None) if isinstance(place[-1], str) else at(config, place)


def changed(config: Any, numbers: Mapping[Place, int]) -> Any:
    """Return a copy of a configuration with other numbers."""
    new = copy.deepcopy(config)
    for place, value in numbers.items():
        home, last = at(new, place[:-1]), place[-1]
        if isinstance(last, int):
            home[last] = value
        else:
            setattr(home, last, value)
    return new


def counts_heads(place: Place) -> bool:
    """Tell whether a number is called as those of attention heads are."""
    names = [step for step in place if isinstance(step, str)]
    return "head" in names[-1] and not names[-1].endswith(("dim", "size"))


def scaled(numbers: Mapping[Place, int]) -> Iterator[dict[Place, int]]:
    """Yield numbers that are as many times less, as far as they are whole."""
    most = max(numbers.values())
    for count in range(1, most + 1):
        if all(value * count % most == 0 for value in numbers.values()):
            yield {place: value * count // most for place, value in numbers.items()}


def shown(place: Place) -> str:
    """Return a place as it is written in Python."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]
