"""Views of parameters, told by what each of their dimensions is of the parameter's dimensions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

from torch import Tensor

from explorer.tracing.calls import Call

__all__ = ["Part", "Parts", "parts_of_views"]


class Part(NamedTuple):
    """Entries `start` to before ``start + length`` of dimension `dim` of a parameter."""

    dim: int
    start: int
    length: int


Parts = tuple[Part | None, ...]
"""What every dimension of a view is; None for an added one, and for one of length 1 that does not matter."""


def parts_of_views(call: Call, tensor: Tensor, parts: Parts) -> list[Parts] | None:
    """Return what the outputs of an operation are of a parameter's view; None where they are computed from it."""
    if call.name in _VIEWS:
        return _VIEWS[call.name](call, parts)
    if not isinstance(call.out, Tensor):
        return None
    out = call.out.shape
    if [n for n in out if n > 1] == [n for n in tensor.shape if n > 1] and call.name != "flip":
        long = iter([part for part, n in zip(parts, tensor.shape, strict=True) if n > 1])
        ones = iter([part for part, n in zip(parts, tensor.shape, strict=True) if n == 1])
        return [tuple(next(long) if n > 1 else next(ones, None) for n in out)]
    if call.name == "expand":
        kept = tuple(part if n > 1 else None for part, n in zip(parts, tensor.shape, strict=True))
        return [(None,) * (len(out) - len(kept)) + kept]
    return None


def _swapped(call: Call, parts: Parts) -> list[Parts]:
    swapped = list(parts)
    first, second = call["dim0"], call["dim1"]
    swapped[first], swapped[second] = swapped[second], swapped[first]
    return [tuple(swapped)]


def _cut(call: Call, parts: Parts) -> list[Parts] | None:
    """Return the parts of consecutive pieces along one dimension."""
    dim, outs = call["dim"], [call.out] if isinstance(call.out, Tensor) else call.out
    part = parts[dim]
    if part is None or (call.name == "slice" and call["step"] != 1):
        return None
    first = 0
    if call.name == "slice":
        size, start = part.length, call["start"] or 0
        first = min(max(start + size if start < 0 else start, 0), size)
    starts = accumulate((out.size(dim) for out in outs), initial=part.start + first)
    pieces = [Part(part.dim, start, out.size(dim)) for start, out in zip(starts, outs, strict=False)]
    return [tuple(piece if own is part else own for own in parts) for piece in pieces]


def _selected(call: Call, parts: Parts) -> list[Parts] | None:
    """Return the parts of one place along a dimension."""
    dim = call["dim"] % len(parts)
    return None if parts[dim] is None or len(parts) < 3 else [(*parts[:dim], *parts[dim + 1 :])]


_VIEWS: dict[str, Callable[[Call, Parts], list[Parts] | None]] = {
    **dict.fromkeys(("_to_copy", "alias", "clone", "contiguous", "detach", "lift_fresh"), lambda call, parts: [parts]),
    **dict.fromkeys(("slice", "split", "split_with_sizes", "unsafe_split"), _cut),
    "select": _selected,
    "permute": lambda call, parts: [tuple(parts[dim] for dim in call["dims"])],
    "t": lambda call, parts: [parts[::-1]],
    "transpose": _swapped,
}
