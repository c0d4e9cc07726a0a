"""Looks: the colours, markers and lines by which series are told apart, in figures of paper and of the report alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["LOOKS", "Look", "looks_of"]


class Look(NamedTuple):
    """Colour, marker and line, the last two as matplotlib spells them."""

    colour: str
    marker: str
    line: str


# Okabe and Ito's colours, and two of Tol's; where two granularities share one, marker and line tell them apart
LOOKS: Mapping[str, Look] = {
    "element": Look("#0072B2", "o", "-"),
    "vector": Look("#56B4E9", "v", "-"),
    "kernel": Look("#CC79A7", "D", "-"),
    "tile_element": Look("#009E73", "P", "-"),
    "tile": Look("#009E73", "s", "--"),
    "tile_vector": Look("#E69F00", "^", "--"),
    "block": Look("#D55E00", "X", "-"),
    "filter": Look("#882255", "h", "-"),
    "layer": Look("#000000", "*", ":"),
    "mixed": Look("#332288", "o", "-."),
}
"""The look of every granularity; none is grey, which is for what is near chance."""

# whose looks series take in turn: first the colours that differ most
_DISTINCT = ("element", "block", "tile_element", "tile_vector", "kernel", "vector", "filter", "mixed")
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":")


def looks_of(names: Iterable[str]) -> dict[str, Look]:
    """Return a look for each name, in turn; of more names than there are colours some share one, with another marker.

    Examples
    --------
    >>> looks_of(["filter", "tile"])["tile"]
    Look(colour='#D55E00', marker='s', line='--')
    """
    return {
        name: Look(LOOKS[_DISTINCT[place % 8]].colour, _MARKERS[(place + place // 8) % 8], _LINES[place % 4])
        for place, name in enumerate(dict.fromkeys(names))
    }
