"""PruningSpace: every recipe that a choice on each axis can make; counted, indexed and sampled without weights."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.cost import CostModel, dense_costs
from spaces.errors import PruningError, unknown
from spaces.granularity import checked_ratio, kept_steps
from spaces.network import ChannelUnit, Network
from spaces.recipe import Recipe, realised_ratio
from spaces.regime import Budget

__all__ = ["Axis", "PruningSpace"]

Row = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Axis:
    """One choice of a recipe: the steps kept of a channel unit, widest first."""

    unit: str
    kept: tuple[int, ...]
    steps: int

    @cached_property
    def ratios(self) -> tuple[float, ...]:
        """The ratios the choices realise, descending."""
        return tuple(realised_ratio(kept, self.steps) for kept in self.kept)

    @classmethod
    def of(cls, unit: ChannelUnit, ratios: Sequence[float]) -> Axis:
        """Return the axis of `ratios` on `unit`; ratios that give the same width are merged."""
        kept = {kept_steps(ratio, unit.steps) for ratio in ratios}
        return cls(unit.name, tuple(sorted(kept, reverse=True)), unit.steps)

    def nearest(self, ratio: float) -> int:
        """Return the index of the choice nearest to `ratio`, the wider one of two equally near."""
        return min(range(len(self.kept)), key=lambda i: (abs(self.kept[i] - ratio * self.steps), i))


@dataclass(frozen=True)
class PruningSpace:
    """A set of recipes of one network: the axes' product, of which `constraints` keep a part.

    A recipe is a *row*, one index an axis, wherever many are handled at once: (n, axes) integer arrays.

    Parameters
    ----------
    network
        The network that is pruned.
    axes
        The choices; at most one axis a unit.
    constraints
        Costs that members of the space respect. `size`, `unrank` and `enumerate` are of the whole product.
    skipped
        (layer, reason) of every fixed layer that a glob matched, and (glob, reason) of globs that decided nothing.

    Examples
    --------
    >>> from spaces.network import Network
    >>> net = Network("two", units=(ChannelUnit("a", 8, writers=("a",)), ChannelUnit("b", 4, writers=("b",))))
    >>> space = PruningSpace.from_config(
    ...     net, {"channels": [{"match": "*", "choices": [{"granularity": "filter", "ratios": [1, 0.75, 0.5, 0.4]}]}]}
    ... )
    >>> space.size  # .5 and .4 of four channels are both two of them
    12
    >>> space[11].to_dict()
    {'channels': {'a': 0.375, 'b': 0.5}}
    """

    network: Network
    axes: tuple[Axis, ...]
    constraints: Budget = field(default_factory=Budget)
    skipped: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_config(cls, network: Network, config: Mapping[str, Any]) -> PruningSpace:
        """Return the space that a space file describes, bound to `network`.

        Parameters
        ----------
        network
            The network.
        config
            ``channels`` (an ordered list of ``{match, choices}``) and optionally ``constraints`` (a budget).

        Raises
        ------
        PruningError
            If a key or granularity is unknown, a ratio is out of range, nothing matches, or two writers of a
            unit are given different choices.
        """
        entries, constraints = _checked(config)
        if not network.units:
            raise PruningError(f"space: network {network.name!r} has nothing to prune ({_first_reason(network)})")
        axes, used = [], set()
        for unit in network.units:
            chosen = {writer: entry for writer in unit.writers if (entry := _first(entries, writer)) is not None}
            if len(set(chosen.values())) > 1:
                first, second = list(chosen)[:2]
                raise PruningError(
                    f"space.channels: {first!r} and {second!r} write one unit but match different entries"
                )
            used |= set(chosen.values())
            if chosen:
                axes.append(Axis.of(unit, entries[next(iter(chosen.values()))][1]))
        if not axes:
            globs = ", ".join(match for match, _ in entries)
            raise PruningError(
                f"space.channels: {globs!r} matches none of the units "
                f"{', '.join(unit.name for unit in network.units[:12])}"
            )
        skipped = [(entry.name, entry.reason) for entry in network.fixed if _first(entries, entry.name) is not None]
        hit = {_first(entries, entry.name) for entry in network.fixed}
        skipped += [
            (match, "a glob that is first to match no layer")
            for i, (match, _) in enumerate(entries)
            if i not in used | hit
        ]
        return cls(network, tuple(axes), constraints, tuple(skipped))

    @staticmethod
    def check(config: Mapping[str, Any]) -> None:
        """Check all of a space file that can be checked without a network; errors are those of `from_config`."""
        _checked(config)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of choices on every axis."""
        return tuple(len(axis.kept) for axis in self.axes)

    @property
    def size(self) -> int:
        """Exact number of recipes (before the constraints)."""
        return prod(self.shape)

    def __len__(self) -> int:
        """Return `size`; Python allows that up to 2**63 - 1 only."""
        return self.size

    @cached_property
    def costs(self) -> CostModel:
        """FLOPs, parameters and bytes of rows."""
        return CostModel(self.network, [(axis.unit, axis.kept) for axis in self.axes])

    @cached_property
    def dense(self) -> dict[str, int]:
        """FLOPs, parameters and bytes of the dense network."""
        return dense_costs(self.network)

    def recipe(self, row: npt.ArrayLike) -> Recipe:
        """Return the recipe of one row."""
        indices = np.asarray(row).tolist()
        return Recipe.of({axis.unit: axis.ratios[i] for axis, i in zip(self.axes, indices, strict=True)})

    def row(self, recipe: Recipe) -> Row:
        """Return the row of `recipe`.

        Raises
        ------
        PruningError
            If a ratio is no choice of its axis, or a unit has no axis.
        """
        ratios = dict(recipe.canonical(self.network).channels)
        row = np.zeros(len(self.axes), dtype=np.int16)
        for i, axis in enumerate(self.axes):
            ratio = ratios.pop(axis.unit, 1.0)
            if ratio not in axis.ratios:
                raise PruningError(
                    f"recipe: {axis.unit} kept {ratio} is no choice of the space, allowed is {list(axis.ratios)}"
                )
            row[i] = axis.ratios.index(ratio)
        if ratios:
            raise PruningError(f"recipe: the space leaves {next(iter(ratios))} dense")
        return row

    def __contains__(self, recipe: object) -> bool:
        if not isinstance(recipe, Recipe):
            return False
        try:
            row = self.row(recipe)
        except PruningError:
            return False
        return bool(self.constraints.inside(self, row[None])[0])

    def unrank(self, index: int) -> Row:
        """Return the row at position `index` of the lexicographic order; the last axis changes fastest.

        Raises
        ------
        IndexError
            If `index` is not in ``[-size, size)``.
        """
        if not -self.size <= index < self.size:
            raise IndexError(f"index {index} is outside a space of {self.size} recipes")
        index %= self.size
        row = np.zeros(len(self.axes), dtype=np.int16)
        for axis in reversed(range(len(self.axes))):
            index, row[axis] = divmod(index, self.shape[axis])
        return row

    def rank(self, row: npt.ArrayLike) -> int:
        """Return the position of a row in the order of `unrank`."""
        index = 0
        for choices, choice in zip(self.shape, np.asarray(row).tolist(), strict=True):
            index = index * choices + choice
        return index

    def __getitem__(self, index: int) -> Recipe:
        return self.recipe(self.unrank(index))

    def rows(self, start: int, stop: int) -> npt.NDArray[np.int16]:
        """Return the rows at positions `start` to `stop` as a (stop - start, axes) array."""
        first = _fast_axes(self.shape)
        block = prod(self.shape[first:])
        rows = np.empty((stop - start, len(self.axes)), dtype=np.int16)
        low = start
        while low < stop:
            # the slow axes, whose positions may need big integers, are constant between multiples of the block
            inner = low % block
            high = min(stop, low - inner + block)
            part = rows[low - start : high - start]
            part[:, :first] = self.unrank(low)[:first]
            part[:, first:] = np.stack(np.unravel_index(np.arange(inner, inner + high - low), self.shape[first:]), 1)
            low = high
        return rows

    def enumerate(self) -> Iterator[Recipe]:
        """Yield every recipe inside the constraints in the order of `unrank`, costed in blocks."""
        for start in range(0, self.size, 4096):
            rows = self.rows(start, min(self.size, start + 4096))
            for row in rows[self.constraints.inside(self, rows)]:
                yield self.recipe(row)

    def sample(self, n: int, rng: np.random.Generator, measure: str = "recipes") -> npt.NDArray[np.int16]:
        """Return n rows drawn with replacement, without regard to the constraints, as an (n, axes) array.

        Parameters
        ----------
        n
            Number of rows.
        rng
            The source of randomness.
        measure
            ``recipes``: uniform over distinct recipes; ``axes``: uniform on every axis. The two differ once
            axes depend on one another (blocks that can be dropped).
        """
        if measure not in ("recipes", "axes"):
            raise unknown("measure", measure, ["recipes", "axes"])
        return rng.integers(0, np.array(self.shape), size=(n, len(self.axes)), dtype=np.int16)

    def neighbours(self, row: npt.ArrayLike) -> npt.NDArray[np.int16]:
        """Return the rows one choice away on one axis, as a (k, axes) array with k <= 2 axes."""
        base = np.asarray(row, dtype=np.int16)
        eye = np.eye(len(base), dtype=np.int16)
        moved = np.concatenate([base - eye, base + eye])
        return moved[((moved >= 0) & (moved < np.array(self.shape))).all(1)]

    def uniform(self, ratio: float) -> Row:
        """Return the row that keeps as nearly as possible the same `ratio` on every axis."""
        return np.array([axis.nearest(ratio) for axis in self.axes], dtype=np.int16)


def _fast_axes(shape: Sequence[int]) -> int:
    """Return the first of the last axes whose product stays below 2**40, so that int64 positions suffice."""
    first, total = len(shape) - 1, shape[-1]
    while first > 0 and total * shape[first - 1] < 2**40:
        first -= 1
        total *= shape[first]
    return first


def _checked(config: Any) -> tuple[list[tuple[str, tuple[float, ...]]], Budget]:
    """Return the (glob, ratios) entries and the constraints of a space file."""
    if not isinstance(config, Mapping):
        raise PruningError(f"space: expected a mapping with channels and constraints, got {config!r}")
    for key in config:
        if key not in ("channels", "constraints"):
            raise unknown("space", key, ["channels", "constraints"])
    return _entries(config.get("channels")), Budget.parse(config.get("constraints") or {}, "space.constraints")


def _entries(channels: Any) -> list[tuple[str, tuple[float, ...]]]:
    if not isinstance(channels, Sequence) or isinstance(channels, str) or not channels:
        raise PruningError("space.channels: expected a list of {match, choices}")
    return [_entry(f"space.channels[{i}]", entry) for i, entry in enumerate(channels)]


def _entry(key: str, entry: Any) -> tuple[str, tuple[float, ...]]:
    if not isinstance(entry, Mapping):
        raise PruningError(f"{key}: expected the two keys match and choices, got {entry!r}")
    for name in entry:
        if name not in ("match", "choices"):
            raise unknown(key, name, ["match", "choices"])
    if len(entry) < 2:
        raise PruningError(f"{key}: expected the two keys match and choices, got {dict(entry)!r}")
    ratios: list[float] = []
    for choice in _list(f"{key}.choices", entry["choices"]):
        if not isinstance(choice, Mapping) or "granularity" not in choice:
            raise PruningError(f"{key}.choices: expected {{granularity, ratios}}, got {choice!r}")
        if choice["granularity"] != "filter":
            raise unknown(f"{key}.choices.granularity", choice["granularity"], ["filter"])
        for name in choice:
            if name not in ("granularity", "ratios"):
                raise unknown(f"{key}.choices", name, ["granularity", "ratios"])
        given = _list(f"{key}.choices.ratios", choice.get("ratios", []))
        ratios += [checked_ratio(f"{key}.choices.ratios", ratio) for ratio in given]
    if not ratios:
        raise PruningError(f"{key}.choices: no ratios given, allowed is a list of 0 < ratio <= 1")
    return str(entry["match"]), tuple(ratios)


def _list(key: str, value: Any) -> list[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise PruningError(f"{key}: expected a list, got {value!r}")
    return list(value)


def _first(entries: Sequence[tuple[str, tuple[float, ...]]], layer: str) -> int | None:
    return next((i for i, (match, _) in enumerate(entries) if fnmatch.fnmatchcase(layer, match)), None)


def _first_reason(network: Network) -> str:
    return f"{network.fixed[0].name}: {network.fixed[0].reason}" if network.fixed else "no layer writes channels"
