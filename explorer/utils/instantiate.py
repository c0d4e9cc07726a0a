"""Functions of the user's: found by their import path, and called so that their mistakes are one line."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from spaces import PruningError, first_line, unknown

__all__ = ["accepted", "called", "check_arguments", "locate"]


def locate(key: str, target: str) -> Callable[..., Any]:
    """Return the object at a dotted import path.

    Raises
    ------
    PruningError
        If there is no such module or attribute.
    """
    module, _, name = str(target).rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise PruningError(f"{key}: {target!r} can't be imported ({error})") from None
    if not callable(found):
        raise PruningError(f"{key}: {target!r} is a {type(found).__name__}, allowed is a class or function")
    return found


def called(key: str, target: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Return what a user's function returns.

    Raises
    ------
    PruningError
        If it does not take the arguments, or raises; `key` says what it was called for.
    """
    check_arguments(key, target, arguments)
    try:
        return target(**arguments)
    except PruningError:
        raise
    except Exception as error:
        line = first_line(error)
        raise PruningError(f"{key}: {target.__name__} raised {type(error).__name__}: {line}") from error


def check_arguments(
    key: str,
    target: Callable[..., Any],
    arguments: Mapping[str, Any],
    *,
    first: Sequence[Any] = (),
    others: Collection[str] = (),
) -> None:
    """Check that a user's function takes arguments, as far as Python knows.

    Parameters
    ----------
    key
        What the function was given for.
    target
        The function.
    arguments
        Given by their names.
    first
        Given before these by their places.
    others
        Names beside the function's own that a misspelt one may mean.

    Raises
    ------
    PruningError
        If it does not take them, or needs others.
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        # of some compiled classes
        return
    if not any(known.kind is known.VAR_KEYWORD for known in signature.parameters.values()):
        names = [name for name, known in signature.parameters.items() if known.kind is not known.VAR_POSITIONAL]
        for name in arguments:
            if name not in names[len(first) :]:
                raise unknown(key, name, dict.fromkeys([*names[len(first) :], *others]))
    try:
        signature.bind(*first, **arguments)
    except TypeError as error:
        called_as = getattr(target, "__name__", type(target).__name__)
        raise PruningError(f"{key}: {error} of {called_as}{signature}") from None


def accepted(factory: Callable[..., Any]) -> Collection[str]:
    """Return the names of a factory's arguments, as far as Python knows them."""
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return ()
