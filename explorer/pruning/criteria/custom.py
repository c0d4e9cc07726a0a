"""The user's own criterion: called so that a mistake in it is one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from explorer.pruning.criteria.magnitude import Named
from explorer.pruning.criteria.subject import Subject
from spaces import PruningError, first_line

__all__ = ["weights"]


def weights(subject: Subject) -> Named:
    """Return the scores that the function gives every weight; it runs with the model in eval mode.

    Raises
    ------
    PruningError
        If it raises, or gives anything but scores of every weight's shape.
    """
    function = subject.options.function
    assert callable(function)
    name = getattr(function, "__name__", type(function).__name__)
    try:
        with subject.borrowed():
            given = function(subject, **subject.options.arguments)
            found = list(given.items() if isinstance(given, Mapping) else given)
    except PruningError:
        raise
    except Exception as error:
        raise PruningError(f"criterion: {name} raised {type(error).__name__} ({first_line(error)[:300]})") from error
    pairs = [pair for pair in found if isinstance(pair, tuple) and len(pair) == 2]
    scores: dict[Any, Any] = dict(pairs) if len(pairs) == len(found) else {}
    for weight, dense in subject.weights.items():
        value = scores.get(weight)
        if not isinstance(value, Tensor) or value.shape != dense.shape:
            got = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise PruningError(
                f"criterion: {name} gives {'nothing' if value is None else got} for {weight}, needed is a tensor of "
                f"scores {list(dense.shape)} for each of subject.weights"
            )
        yield weight, value.detach().cpu().double()
