"""PruningSpace: every recipe that a choice on each axis can make; counted, indexed and sampled without weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.axis import Axis
from spaces.binding import bind
from spaces.budget import Budget
from spaces.cost import CostModel, dense_costs
from spaces.errors import PruningError, unknown
from spaces.granularity import Pattern
from spaces.neighbourhood import nearby
from spaces.network import Network
from spaces.recipe import Recipe
from spaces.space_file import SpaceFile
from spaces.tree import Tree

__all__ = ["PruningSpace"]

Row = npt.NDArray[np.int16]


@dataclass(frozen=True)
class PruningSpace:
    """A set of recipes of one network: the axes' product, of which `constraints` keep a part.

    A recipe is a *row*, one index an axis, wherever many are handled at once: (n, axes) integer arrays. Rows are
    canonical: the axes inside a dropped block stand at 0.

    Parameters
    ----------
    network
        The network that is pruned.
    axes
        The choices; at most one axis a unit, weight or block.
    constraints
        Costs that members of the space respect. `size`, `unrank` and `enumerate` are of the whole product.
    skipped
        (name or glob, reason) of whatever the space file matched in vain.
    divisor
        Of which the widths that the axes offer are multiples, wherever a unit allows.

    Examples
    --------
    >>> from spaces.network import ChannelUnit
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
    divisor: int = 1

    @classmethod
    def from_config(cls, network: Network, config: Mapping[str, Any]) -> PruningSpace:
        """Return the space that a space file describes, bound to `network`.

        Parameters
        ----------
        network
            The network.
        config
            ``channels``, ``weights``, ``blocks`` (ordered lists of ``{match, choices}``, at least one of them) and
            optionally ``divisor`` (of kept channels), ``tie`` (one glob or several, each of which makes what it matches
            share one choice), ``constraints`` (a budget) and ``around`` (``{recipe, radius}``: near which recipe).

        Raises
        ------
        PruningError
            If a key or granularity is unknown, a parameter or ratio is out of range, the globs of a list match
            nothing, two writers of a unit or what is tied are given different choices, or a tie lies in several
            blocks that can be dropped.
        """
        file = SpaceFile.parse(config)
        if file.around is not None:
            # names that the network has not are named by the recipe, not by what the space made of them
            file.around.recipe.canonical(network)
        axes, skipped = bind(network, file)
        space = cls(network, axes, file.constraints, skipped, file.divisor)
        return space if file.around is None else space.around(file.around.recipe, file.around.radius)

    @staticmethod
    def check(config: Mapping[str, Any]) -> None:
        """Check all of a space file that can be checked without a network; errors are those of `from_config`."""
        SpaceFile.parse(config)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Number of choices on every axis."""
        return tuple(len(axis.choices) for axis in self.axes)

    @cached_property
    def tree(self) -> Tree:
        """Which axes depend on which blocks."""
        return Tree.of(self.network, self.axes)

    @property
    def size(self) -> int:
        """Exact number of recipes (before the constraints)."""
        return self.tree.size

    def __len__(self) -> int:
        """Return `size`; Python allows that up to 2**63 - 1 only."""
        return self.size

    @cached_property
    def costs(self) -> CostModel:
        """The costs of rows."""
        return CostModel(self.network, self.axes)

    @cached_property
    def dense(self) -> dict[str, int]:
        """The costs of the dense network."""
        return dense_costs(self.network)

    @cached_property
    def bounds(self) -> dict[str, tuple[int, int]]:
        """The least and the greatest of each cost over all recipes, exact.

        Costs rise with widths and kept blocks, and given those every layer's pattern counts for itself.
        """
        ends = []
        for pick, last in ((np.argmin, -1), (np.argmax, 0)):
            kept = {"channels": last, "weights": 0, "blocks": last}
            base = np.array([range(len(axis.choices))[kept[axis.part]] for axis in self.axes], dtype=np.int16)
            best = {name: base.copy() for name in self.dense}
            for place, axis in enumerate(self.axes):
                if axis.part == "weights":
                    rows = np.repeat(base[None], self.shape[place], 0)
                    rows[:, place] = np.arange(self.shape[place])
                    for name, values in self.costs(rows).items():
                        best[name][place] = pick(values)
            ends.append({name: int(self.costs(row[None])[name][0]) for name, row in best.items()})
        return {name: (ends[0][name], ends[1][name]) for name in self.dense}

    def canonical(self, rows: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
        """Return the (n, axes) rows with the axes inside dropped blocks at 0; the array itself is changed."""
        for block in self.tree.blocks:
            dropped = np.flatnonzero(block.dropped(rows))
            rows[dropped[:, None], block.inner] = 0
        return rows

    def recipe(self, row: npt.ArrayLike) -> Recipe:
        """Return the recipe of one row."""
        chosen: dict[str, dict[str, Any]] = {"channels": {}, "weights": {}, "blocks": {}}
        rows = np.asarray(row)[None]
        hidden = {place for block in self.tree.blocks if block.dropped(rows)[0] for place in block.inner}
        for place, (axis, i) in enumerate(zip(self.axes, np.asarray(row).tolist(), strict=True)):
            for one in axis.addressed if place not in hidden else ():
                if one.choices[i] is not None:
                    chosen[axis.part][one.name] = one.choices[i]
        dropped = [name for name, kept in chosen["blocks"].items() if not kept]
        return Recipe.of(chosen["channels"], chosen["weights"], dropped)

    def row(self, recipe: Recipe) -> Row:
        """Return the row of `recipe`.

        Raises
        ------
        PruningError
            If a choice of the recipe is none of its axis, or has no axis.
        """
        known = recipe.canonical(self.network)
        given: dict[tuple[str, str], Any] = {
            **{("channels", name): ratio for name, ratio in known.channels},
            **{("weights", name): pattern for name, pattern in known.weights},
            **{("blocks", name): 0 for name in known.blocks},
        }
        default = {"channels": 1.0, "weights": None, "blocks": 1}
        row = np.zeros(len(self.axes), dtype=np.int16)
        hidden = {
            place
            for block in self.tree.blocks
            if block.axis is not None and self.axes[block.axis].name in known.blocks
            for place in block.inner
        }
        for i, axis in enumerate(self.axes):
            together = tuple(given.pop(one.key, default[axis.part]) for one in axis.addressed)
            if i in hidden:
                continue
            choices = list(zip(*(one.choices for one in axis.addressed), strict=True))
            if together not in choices:
                kept = [choice if isinstance(choice, Pattern) else f"kept {choice}" for choice in together]
                named = ", ".join(f"{one.name} {what}" for one, what in zip(axis.addressed, kept, strict=True))
                tied = f" of {axis.name}, which are tied," if axis.members else ""
                allowed = ", ".join(f"{one}" for one in axis.choices)
                raise PruningError(f"recipe: {named}{tied} is no choice of the space, allowed is {allowed}")
            row[i] = choices.index(together)
        if given:
            raise PruningError(f"recipe: the space leaves {next(iter(given))[1]} dense")
        return row

    def __contains__(self, recipe: object) -> bool:
        if not isinstance(recipe, Recipe):
            return False
        try:
            row = self.row(recipe)
        except PruningError:
            return False
        return bool(self.inside(row[None], self.constraints)[0])

    def inside(self, rows: npt.NDArray, budget: Budget) -> npt.NDArray[np.bool_]:
        """Return which of the (n, axes) rows respect a budget; the space's own constraints are not asked."""
        return self.violation(rows, budget) <= 0

    def violation(self, rows: npt.NDArray, budget: Budget) -> npt.NDArray[np.float64]:
        """Return the relative excess of the (n, axes) rows over a budget, summed over its metrics; 0 inside."""
        return budget.violation(self.costs(rows), self.dense) if budget and len(rows) else np.zeros(len(rows))

    def unrank(self, index: int) -> Row:
        """Return the row at position `index` of the lexicographic order; the last axis changes fastest.

        Raises
        ------
        IndexError
            If `index` is not in ``[-size, size)``.
        """
        if not -self.size <= index < self.size:
            raise IndexError(f"index {index} is outside a space of {self.size} recipes")
        rows = np.zeros((1, len(self.axes)), dtype=np.int16)
        # object: positions may need more than 64 bits
        self.tree.write(np.array([index % self.size], dtype=object), rows)
        return rows[0]

    def rank(self, row: npt.ArrayLike) -> int:
        """Return the position of a row in the order of `unrank`."""
        return self.tree.rank(np.asarray(row).tolist())

    def __getitem__(self, index: int) -> Recipe:
        return self.recipe(self.unrank(index))

    def rows(self, start: int, stop: int) -> npt.NDArray[np.int16]:
        """Return the rows at positions `start` to `stop` as a (stop - start, axes) array."""
        rows = np.zeros((stop - start, len(self.axes)), dtype=np.int16)
        small = self.size < 2**62
        self.tree.write(np.arange(start, stop) if small else np.array(range(start, stop), dtype=object), rows)
        return rows

    def enumerate(self) -> Iterator[Recipe]:
        """Yield every recipe inside the constraints in the order of `unrank`, costed in blocks."""
        for start in range(0, self.size, 4096):
            rows = self.rows(start, min(self.size, start + 4096))
            for row in rows[self.inside(rows, self.constraints)]:
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
            ``recipes``: uniform over distinct recipes, which seldom drops a block with many axes inside; ``axes``:
            uniform on every axis, then canonical.
        """
        if measure not in ("recipes", "axes"):
            raise unknown("measure", measure, ["recipes", "axes"])
        rows = rng.integers(0, np.array(self.shape), size=(n, len(self.axes)), dtype=np.int16)
        if measure == "recipes":
            for block in self.tree.blocks:
                dropped = rng.random(n) < (block.size - block.kept) / block.size
                rows[:, block.axis] = np.where(dropped, block.choices.index(0), 0) if 0 in block.choices else 0
        return self.canonical(rows)

    def neighbours(self, row: npt.ArrayLike) -> npt.NDArray[np.int16]:
        """Return the rows one choice away on one axis, as a (k, axes) array.

        A pattern's neighbours are the next ratios of its kind and its own ratio in other kinds.
        """
        base = np.asarray(row, dtype=np.int16)
        moves = [(place, i) for place, axis in enumerate(self.axes) for i in axis.neighbours[base[place]]]
        rows = np.repeat(base[None], len(moves), 0)
        for moved, (place, i) in zip(rows, moves, strict=True):
            moved[place] = i
        rows = np.unique(self.canonical(rows), axis=0)
        return rows[(rows != base).any(1)]

    def around(self, recipe: Recipe, radius: int) -> PruningSpace:
        """Return the part of the space in which every choice is at most `radius` steps from a recipe's.

        Raises
        ------
        PruningError
            If the recipe prunes what has no axis here, see `spaces.neighbourhood.nearby`.
        """
        return replace(self, axes=nearby(self.network, self.axes, recipe, radius))

    def is_dense(self, row: npt.ArrayLike) -> bool:
        """Tell whether a row keeps everything."""
        return all(axis.ratios[i] == 1 for axis, i in zip(self.axes, np.asarray(row).tolist(), strict=True))

    @cached_property
    def families(self) -> Mapping[str, Mapping[int, str]]:
        """The families in which a uniform ratio makes sense, each with the places of its axes and its name there.

        ``channels``, ``blocks``, and every kind of pattern that some weight can choose besides others. Weights without
        such a choice are ``weights``, whatever their only kind.
        """
        rivals = {kind for axis in self.axes if len(axis.kinds) > 1 for kind in axis.kinds}
        found: dict[str, dict[int, str]] = {}
        for place, axis in enumerate(self.axes):
            for family in axis.families:
                name = family if axis.part != "weights" or family in rivals else "weights"
                found.setdefault(name, {})[place] = family
        return found

    def uniform(self, ratio: float, family: str | None = None) -> Row:
        """Return the row that keeps as nearly as possible the same `ratio` on every axis of a family.

        Parameters
        ----------
        ratio
            Of channels or weights; of blocks the share kept, the dropped ones evenly spread.
        family
            One of `families`, the first by default. Axes of others keep the most they can.
        """
        chosen = next(iter(self.families)) if family is None else family
        row = np.zeros(len(self.axes), dtype=np.int16)
        mine = self.families[chosen]
        # place i is dropped where the running share of dropped blocks passes a whole number
        drops = np.diff(np.floor(np.arange(len(mine) + 1) * (1 - ratio) + 0.5 + 1e-9)) > 0
        for (place, name), drop in zip(mine.items(), drops, strict=True):
            row[place] = self.axes[place].nearest(1 - int(drop) if chosen == "blocks" else ratio, name)
        return self.canonical(row[None])[0]
