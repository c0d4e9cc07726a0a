"""The granularities: shapes in which weights are removed, their parameters, and the ratios each of them allows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spaces.errors import PruningError, unknown

__all__ = ["GRANULARITIES", "GROUPS", "PATTERNS", "Granularity", "Pattern", "checked_ratio", "kept_steps", "rounded"]

GROUPS = ("layer", "output")
"""Which weights of a layer compete for staying: all, or those of each output, which then keeps as many as any other."""

# of a pattern's blocks, tiles and vectors; no layer is larger
_LARGEST_SIZE = 2**31 - 1


@dataclass(frozen=True)
class Granularity:
    """A row of the table of granularities.

    Parameters
    ----------
    name
        What space files call it.
    part
        Which of a space's lists it belongs to: ``channels``, ``weights`` or ``blocks``.
    parameters
        Names and defaults of its parameters besides the ratio.
    """

    name: str
    part: str
    parameters: Mapping[str, Any]


GRANULARITIES: Mapping[str, Granularity] = {
    row.name: row
    for row in [
        Granularity("filter", "channels", {}),
        Granularity("element", "weights", {"per": "layer"}),
        Granularity("vector", "weights", {"n": 2, "m": 4}),
        Granularity("kernel", "weights", {}),
        Granularity("block", "weights", {"height": 32, "width": 32}),
        Granularity("tile", "weights", {"width": 128}),
        Granularity("tile_element", "weights", {"width": 128, "delta": 0.05}),
        Granularity("tile_vector", "weights", {"width": 128, "n": 2, "m": 4}),
        Granularity("layer", "blocks", {}),
    ]
}
"""All granularities by name, coarse channels first and blocks last; sizes are in entries of the GEMM view."""

PATTERNS = tuple(name for name, row in GRANULARITIES.items() if row.part == "weights")
"""The granularities that put a pattern on a weight."""


@dataclass(frozen=True)
class Pattern:
    """What is kept of one weight, seen as a GEMM matrix: a granularity, its parameters and the ratio kept.

    `of` makes and checks it. A parameter that the granularity does not have is 0.

    Parameters
    ----------
    granularity
        One of `PATTERNS`.
    ratio
        The share kept of the weight's entries, 0 < ratio < 1. That of ``vector`` is n / m.
    n, m
        Of every m consecutive weights along K, n are kept (``vector``, ``tile_vector``).
    height, width
        Entries along K and along N of a block; columns of a tile.
    delta
        The share of the entries that ``tile_element`` gives back one by one.
    per
        One of `GROUPS`: among which weights ``element`` takes the best.

    Examples
    --------
    >>> Pattern.of({"granularity": "vector", "n": 2, "m": 4}).ratio
    0.5
    >>> str(Pattern.of({"granularity": "tile", "width": 16, "ratio": 0.35}))
    'tile(width=16) 0.35'
    """

    granularity: str
    ratio: float
    n: int = 0
    m: int = 0
    height: int = 0
    width: int = 0
    delta: float = 0.0
    per: str = "layer"

    @classmethod
    def of(cls, config: Mapping[str, Any], key: str = "pattern") -> Pattern:
        """Return the pattern that a mapping with ``granularity``, parameters and ``ratio`` describes.

        Parameters
        ----------
        config
            Parameters left out have the defaults of `GRANULARITIES`; ``vector`` takes no ratio.
        key
            What the user called the mapping, for errors.

        Raises
        ------
        PruningError
            If a key is unknown, a value is out of range, or the granularity does not allow the ratio.
        """
        if not isinstance(config, Mapping):
            raise PruningError(f"{key}: expected a pattern such as {{granularity: tile, ratio: 0.5}}, got {config!r}")
        given = dict(config)
        name = given.pop("granularity", None)
        if name not in PATTERNS:
            raise unknown(f"{key}.granularity", name, PATTERNS)
        asked = None if name == "vector" else given.pop("ratio", None)
        parameters = checked_parameters(key, name, given)
        if name == "vector":
            ratio = rounded(parameters["n"] / parameters["m"])
        else:
            ratio = checked_pattern_ratio(f"{key}.ratio", name, parameters, asked)
        return cls(name, ratio, **parameters)

    @property
    def parameters(self) -> dict[str, Any]:
        """The granularity's parameters besides the ratio, by name."""
        return {name: getattr(self, name) for name in GRANULARITIES[self.granularity].parameters}

    @property
    def kind(self) -> str:
        """The pattern without its ratio, as text: choices of one kind differ in their ratio only."""
        fixed = {"m": self.m} if self.granularity == "vector" else self._told
        inside = ", ".join(f"{name}={value}" for name, value in fixed.items())
        return f"{self.granularity}({inside})" if inside else self.granularity

    @property
    def _told(self) -> dict[str, Any]:
        """The parameters without a group that is the whole layer, which needs no mention."""
        return {name: value for name, value in self.parameters.items() if value != "layer"}

    def __str__(self) -> str:
        return f"{self.kind} {self.ratio:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the pattern as `of` takes it."""
        plain = {"granularity": self.granularity} | self._told
        return plain if self.granularity == "vector" else plain | {"ratio": self.ratio}


def checked_parameters(key: str, name: str, given: Mapping[str, Any], beside: str = "ratio") -> dict[str, Any]:
    """Return a granularity's parameters with the defaults of those not given.

    `beside` is what the key of the ratio is called, for errors.

    Raises
    ------
    PruningError
        If one is unknown or out of range: sizes are whole and positive, ``n <= m``, ``0 < delta < 1``, ``per`` is one
        of `GROUPS`.
    """
    defaults = GRANULARITIES[name].parameters
    for parameter in given:
        if name == "vector" and parameter in ("ratio", "ratios"):
            raise PruningError(f"{key}.{parameter}: the ratio of vector is n / m, allowed are n and m only")
        if parameter not in defaults:
            raise unknown(key, parameter, [*defaults, *([] if name == "vector" else [beside])])
    values = {**defaults, **given}
    for parameter, value in values.items():
        if parameter == "per":
            if value not in GROUPS:
                raise unknown(f"{key}.per", value, GROUPS)
            continue
        number = not isinstance(value, bool) and isinstance(value, int if parameter != "delta" else int | float)
        if parameter == "delta":
            if not number or not 0 < value < 1:
                raise PruningError(f"{key}.delta: {value!r}, allowed is a share 0 < delta < 1")
        elif not number or not 1 <= value <= _LARGEST_SIZE:
            bound = f" and <= {_LARGEST_SIZE}" if number and value > 1 else ""
            raise PruningError(f"{key}.{parameter}: {value!r}, allowed is a whole number >= 1{bound}")
    if "n" in values and values["n"] > values["m"]:
        raise PruningError(f"{key}.n: {values['n']} of every {values['m']} weights, allowed is n <= m")
    return values


def checked_pattern_ratio(key: str, name: str, parameters: Mapping[str, Any], ratio: object) -> float:
    """Return a ratio after checking that the granularity allows it.

    Raises
    ------
    PruningError
        If it is no share kept, not above ``tile_element``'s delta, or above ``tile_vector``'s n / m.
    """
    value = checked_ratio(key, ratio)
    if name == "tile_element" and value < 1 and value <= parameters["delta"]:
        raise PruningError(f"{key}: {value:g}, allowed is a ratio above delta={parameters['delta']:g}")
    if name == "tile_vector" and value > parameters["n"] / parameters["m"]:
        n, m = parameters["n"], parameters["m"]
        raise PruningError(f"{key}: {value:g}, allowed is a ratio up to n/m={n}/{m}")
    return value


def checked_ratio(key: str, ratio: object) -> float:
    """Return `ratio` as a float after checking that it is a share kept in (0, 1].

    Raises
    ------
    PruningError
        If `ratio` is not a number, not finite, 0 or less, or above 1.
    """
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
        raise PruningError(f"{key}: ratio {ratio!r} is not a share kept, allowed is 0 < ratio <= 1")
    return float(ratio)


def kept_steps(ratio: float, steps: int) -> int:
    """Return how many of `steps` equal units a ratio keeps, at least one.

    ``max(1, floor(ratio * steps + .5))``: DESIGN.md's rule. For channels ``steps = channels / step``.
    """
    return max(1, math.floor(ratio * steps + 0.5))


def rounded(ratio: float) -> float:
    """Return a ratio with as few digits as name it."""
    return round(ratio, 6)
