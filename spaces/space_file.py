"""Space files: three lists of globs and choices, checked as far as that is possible without a network."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spaces.budget import Budget
from spaces.errors import PruningError, unknown
from spaces.granularity import (
    GRANULARITIES,
    Pattern,
    checked_parameters,
    checked_pattern_ratio,
    checked_ratio,
)
from spaces.recipe import Recipe

__all__ = ["PARTS", "Around", "Entry", "SpaceFile"]

# keys of a space file besides its lists
_KEYS = ("constraints", "divisor", "tie", "around")

PARTS = ("channels", "weights", "blocks")
"""The lists of a space file, in the order in which axes stand."""


@dataclass(frozen=True)
class Entry:
    """What a glob offers: ratios for channels, patterns or None (dense) for weights, 1 and 0 for blocks.

    With `halves` that is for the halves of blocks too.
    """

    match: str
    choices: tuple[float | int | Pattern | None, ...]
    halves: bool = False

    @property
    def exact(self) -> bool:
        """Whether the glob names one thing."""
        return not any(sign in self.match for sign in "*?[")


@dataclass(frozen=True)
class Around:
    """The recipe in the middle of a space, and how many steps from it choices may be, see `spaces.neighbourhood`."""

    recipe: Recipe
    radius: int

    @classmethod
    def parse(cls, given: Any) -> Around:
        """Return what ``around: {recipe: ..., radius: 2}`` of a space file says.

        Raises
        ------
        PruningError
            If a key is unknown or missing, the recipe is none, or the radius is no whole number of 0 or more.
        """
        if not isinstance(given, Mapping) or set(given) != {"recipe", "radius"}:
            raise PruningError(f"space.around: {given!r}, allowed is a mapping with recipe and radius")
        radius = given["radius"]
        if isinstance(radius, bool) or not isinstance(radius, int) or radius < 0:
            raise PruningError(f"space.radius: {radius!r}, allowed is a whole number >= 0")
        return cls(Recipe.from_dict(given["recipe"]), radius)


@dataclass(frozen=True)
class SpaceFile:
    """The entries of each of `PARTS`, the divisor of kept channels, the globs that tie, constraints, and the middle."""

    channels: tuple[Entry, ...] = ()
    weights: tuple[Entry, ...] = ()
    blocks: tuple[Entry, ...] = ()
    divisor: int = 1
    tie: tuple[str, ...] = ()
    constraints: Budget = field(default_factory=Budget)
    around: Around | None = None

    @classmethod
    def parse(cls, config: Any) -> SpaceFile:
        """Return the entries and constraints of a parsed space file.

        Raises
        ------
        PruningError
            If a key or granularity is unknown, a parameter or ratio is out of range, or nothing is offered.
        """
        if not isinstance(config, Mapping):
            raise PruningError(f"space: expected a mapping with {', '.join((*PARTS, *_KEYS))}; got {config!r}")
        for key in config:
            if key not in (*PARTS, *_KEYS):
                raise unknown("space", key, [*PARTS, *_KEYS])
        parts = {part: _entries(part, config[part]) for part in PARTS if config.get(part)}
        if not parts:
            raise PruningError(f"space: nothing to choose, expected a list in {', '.join(PARTS)}")
        middle = config.get("around")
        return cls(
            **parts,
            divisor=_divisor(config.get("divisor")),
            tie=_globs(config.get("tie")),
            constraints=Budget.parse(config.get("constraints") or {}, "space.constraints"),
            around=None if middle is None else Around.parse(middle),
        )

    def first(self, part: str, name: str, *, half: bool = False) -> int | None:
        """Return the place of the first entry of a list whose glob matches `name`, which may be that of a half."""
        fitting = (
            place
            for place, entry in enumerate(getattr(self, part))
            if fnmatch.fnmatchcase(name, entry.match) and (entry.halves or not half)
        )
        return next(fitting, None)


def _divisor(given: Any) -> int:
    if given is None:
        return 1
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise PruningError(f"space.divisor: {given!r}, allowed is a whole number >= 1 such as 8, or null")
    return given


def _globs(given: Any) -> tuple[str, ...]:
    listed = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(listed, Sequence) or not all(isinstance(glob, str) and glob for glob in listed):
        raise PruningError(f"space.tie: {given!r}, allowed is a glob such as 'layers.*.mlp', a list of them, or null")
    return tuple(dict.fromkeys(listed))


def _entries(part: str, listed: Any) -> tuple[Entry, ...]:
    if not isinstance(listed, Sequence) or isinstance(listed, str):
        raise PruningError(f"space.{part}: expected a list of {{match, choices}}, got {listed!r}")
    return tuple(_entry(part, f"space.{part}[{i}]", entry) for i, entry in enumerate(listed))


def _entry(part: str, key: str, entry: Any) -> Entry:
    if not isinstance(entry, Mapping):
        raise PruningError(f"{key}: expected the two keys match and choices, got {entry!r}")
    allowed = ["match", "choices", *["halves"] * (part == "blocks")]
    for name in entry:
        if name not in allowed:
            raise unknown(key, name, allowed)
    if not isinstance(entry.get("halves", False), bool):
        raise PruningError(f"{key}.halves: {entry['halves']!r}, allowed is true or false")
    if not {"match", "choices"} <= set(entry):
        raise PruningError(f"{key}: expected the two keys match and choices, got {dict(entry)!r}")
    listed = _list(f"{key}.choices", entry["choices"])
    choices = [one for choice in listed for one in _choice(part, f"{key}.choices", choice)]
    if not choices:
        raise PruningError(f"{key}.choices: expected a list of {{granularity, ratios}}, got none")
    return Entry(str(entry["match"]), tuple(dict.fromkeys(choices)), bool(entry.get("halves")))


def _choice(part: str, key: str, choice: Any) -> list[float | int | Pattern | None]:
    """Return all that one item of a list of choices offers."""
    if not isinstance(choice, Mapping) or "granularity" not in choice:
        raise PruningError(f"{key}: expected {{granularity, ratios}}, got {choice!r}")
    given = dict(choice)
    name = given.pop("granularity")
    if part == "weights" and name == "none":
        for other in given:
            raise PruningError(f"{key}: {other!r} beside granularity none, which takes nothing")
        return [None]
    allowed = [row.name for row in GRANULARITIES.values() if row.part == part]
    if name in GRANULARITIES and name not in allowed:
        raise PruningError(f"{key}.granularity: {name!r} belongs in the list {GRANULARITIES[name].part!r}")
    if name not in allowed:
        raise unknown(f"{key}.granularity", name, [*allowed, "none"] if part == "weights" else allowed)
    if name == "vector":
        return [_dense_as_none(Pattern.of(choice, key))]
    ratios = _list(f"{key}.ratios", given.pop("ratios", []))
    parameters = checked_parameters(key, name, given, beside="ratios")
    if not ratios:
        legal = "1 (kept) and 0 (dropped)" if part == "blocks" else "a list of 0 < ratio <= 1"
        raise PruningError(f"{key}.ratios: no ratios given for {name}, allowed is {legal}")
    if part == "blocks":
        return [_kept(f"{key}.ratios", ratio) for ratio in ratios]
    if part == "channels":
        return [checked_ratio(f"{key}.ratios", ratio) for ratio in ratios]
    for ratio in ratios:
        checked_pattern_ratio(f"{key}.ratios", name, parameters, ratio)
    return [_dense_as_none(Pattern(name, float(ratio), **parameters)) for ratio in ratios]


def _dense_as_none(pattern: Pattern) -> Pattern | None:
    return pattern if pattern.ratio < 1 else None


def _kept(key: str, ratio: Any) -> int:
    if isinstance(ratio, bool) or ratio not in (0, 1):
        raise PruningError(f"{key}: {ratio!r}, allowed is 1 (kept) and 0 (dropped)")
    return int(ratio)


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise PruningError(f"{key}: expected a list, got {value!r}")
    return list(value)
