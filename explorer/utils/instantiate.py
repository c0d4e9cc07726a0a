"""Functions of the user's: found by their import path, and called so that their mistakes are one line."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from spaces import PruningError, first_line, unknown

__all__ = ["accepted", "called", "locate"]


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
    try:
        signature = inspect.signature(target)
        if not any(known.kind is known.VAR_KEYWORD for known in signature.parameters.values()):
            for name in arguments:
                if name not in signature.parameters:
                    raise unknown(key, name, signature.parameters)
        signature.bind(**arguments)
    except TypeError as error:
        raise PruningError(f"{key}: {error} of {target.__name__}{inspect.signature(target)}") from None
    except ValueError:
        # a signature that Python does not know, as of some compiled classes
        pass
    try:
        return target(**arguments)
    except PruningError:
        raise
    except Exception as error:
        line = first_line(error)
        raise PruningError(f"{key}: {target.__name__} raised {type(error).__name__}: {line}") from error


def accepted(factory: Callable[..., Any]) -> Collection[str]:
    """Return the names of a factory's arguments, as far as Python knows them."""
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return ()
