"""Keywords of the Python door: one that a function does not take is a mistake in one line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from spaces import unknown

__all__ = ["keywords_of", "known_keywords"]

P = ParamSpec("P")
T = TypeVar("T")


def keywords_of(function: Callable[..., Any]) -> list[str]:
    """Return the names under which a function takes arguments."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in named and parameter.name != "self"]


def known_keywords(function: Callable[P, T]) -> Callable[P, T]:
    """Return the function, for which an unknown keyword is a PruningError that has the nearest spelling.

    Examples
    --------
    >>> @known_keywords
    ... def explore(*, budget=None):
    ...     return budget
    >>> explore(budgt=1)
    Traceback (most recent call last):
    ...
    spaces.errors.PruningError: explore: 'budgt' is unknown, did you mean 'budget'? Allowed: budget
    """
    name, known = function.__qualname__.removesuffix(".__init__"), keywords_of(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> T:
        for key in kwargs:
            if key not in known:
                raise unknown(name, key, known)
        return function(*args, **kwargs)

    return checked
