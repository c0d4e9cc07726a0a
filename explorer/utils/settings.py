"""Settings: sections of a configuration as frozen dataclasses, whose fields say what is allowed.

Examples
--------
>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Training:
...     epochs: int = number(1)
...     augment: bool = flag()
>>> parsed(Training, "training", {"epochs": 20, "augment": False})
Training(epochs=20, augment=False)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import field, fields
from typing import Any, TypeVar

from explorer.utils.checks import checked_number
from spaces import PruningError, unknown

__all__ = ["checked", "flag", "number", "parsed", "share", "word"]

Settings = TypeVar("Settings")

Check = Callable[[str, Any], None]
"""Raises a PruningError that names the key if the value is not allowed."""


def number(least: float, **rule: Any) -> Any:
    """Return a field whose value is a number, see `explorer.utils.checks.checked_number`."""
    return checked(lambda key, value: checked_number(key, value, least=least, **rule))


def share(*, whole: bool) -> Any:
    """Return a field whose value is a number in [0, 1], or in [0, 1) unless the `whole` is allowed too."""

    def check(key: str, value: Any) -> None:
        checked_number(key, value, least=0, whole=False)
        if value > 1 or (value == 1 and not whole):
            raise PruningError(f"{key}: {value!r}, allowed is a number in [0, 1{']' if whole else ')'}")

    return checked(check)


def flag() -> Any:
    """Return a field whose value is true or false."""

    def check(key: str, value: Any) -> None:
        if not isinstance(value, bool):
            raise PruningError(f"{key}: {value!r}, allowed is true or false")

    return checked(check)


def word(allowed: Collection[str]) -> Any:
    """Return a field whose value is one of some words."""

    def check(key: str, value: Any) -> None:
        if not isinstance(value, str) or value not in allowed:
            raise unknown(key, str(value), allowed)

    return checked(check)


def checked(check: Check) -> Any:
    """Return a field whose value is what a function lets through."""
    return field(metadata={"check": check})


def parsed(kind: type[Settings], key: str, section: Mapping[str, Any]) -> Settings:
    """Return the settings that a section of the configuration gives.

    Parameters
    ----------
    kind
        A dataclass with a field for every key; fields without a check take any value. Lists become tuples.
    key
        What the section is called.
    section
        Has all keys and no other.

    Raises
    ------
    PruningError
        If a key is unknown or missing, or a value is not allowed.
    """
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for name in section:
        if name not in known:
            raise unknown("key", f"{key}.{name}", [f"{key}.{name}" for name in known])
    values = {}
    for name, entry in known.items():
        if name not in section:
            raise PruningError(f"{key}.{name}: not given, and needed")
        value = section[name]
        if "check" in entry.metadata:
            entry.metadata["check"](f"{key}.{name}", value)
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
