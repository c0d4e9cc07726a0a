"""Axes whose ratios are free: every width, every count of weights that a granularity allows, not a space's grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, floor, prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from spaces import (
    Axis,
    ChannelUnit,
    CostModel,
    Gemm,
    Layer,
    Network,
    Pattern,
    PruningError,
    PruningSpace,
    Recipe,
    unknown,
)
from spaces.axis import Choice
from spaces.granularity import rounded

if TYPE_CHECKING:
    from explorer.pruning.criteria import Scores

# a configuration is checked without torch

__all__ = ["FreeAxis", "FreeSpace", "allocated_family"]

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# what the six digits of a recipe's ratio can name
_FINEST = 1_000_000


@dataclass(frozen=True, eq=False)
class FreeAxis:
    """The choices for one channel unit or weight: ``count`` of `steps` equal parts are kept.

    Parameters
    ----------
    part, name
        As an `Axis` has them.
    steps
        Parts: a unit's steps, the weights, kernels or blocks of a matrix, the m of vectors.
    least, most
        The fewest that can be kept, and the most besides all of them.
    pattern
        A pattern of the weight's kind; None for channels.
    entries
        Weights that the axis decides about: of the layer, or of all that write the unit.
    spread
        The lengths of those weights' dimensions, summed: what Erdos-Renyi-Kernel weighs `entries` with.
    scores
        Of what is pruned together (steps of channels, weights, kernels), in units of their mean, falling. Empty where
        only the space is of interest.
    """

    part: str
    name: str
    steps: int
    least: int
    most: int
    gemm: Gemm | None
    pattern: Pattern | None
    entries: int
    spread: int
    scores: Floats
    quadratic: bool = False

    def nearest(self, ratios: Floats) -> Counts:
        """Return the counts nearest to ratios, of two equally near the greater."""
        wanted = ratios * self.steps
        kept = np.clip(np.floor(wanted + 0.5), self.least, self.most)
        return np.where(wanted >= (self.most + self.steps) / 2, self.steps, kept).astype(np.int64)

    def moved(self, count: int, by: int) -> int:
        """Return the count that many steps up or down, or the end on the way there."""
        place = min(max(min(count, self.most + 1) + by, self.least), self.most + 1)
        return self.steps if place > self.most else place

    def score(self, count: int) -> float:
        """Return the score of what `count` keeps and one step less does not."""
        return float(self.scores[min(ceil(count / self.steps * len(self.scores)), len(self.scores)) - 1])

    def choice(self, count: int) -> Choice:
        """Return the choice that keeps `count` parts, as an `Axis` has it."""
        ratio = rounded(count / self.steps)
        if self.pattern is None or self.gemm is None:
            return ratio
        if count == self.steps:
            return None
        if self.pattern.granularity == "vector":
            return self.gemm.canonical(replace(self.pattern, ratio=ratio, n=count))
        return self.gemm.canonical(replace(self.pattern, ratio=ratio))

    @property
    def states(self) -> int:
        """How many counts there are."""
        return self.most - self.least + 2


@dataclass(frozen=True, eq=False)
class FreeSpace:
    """One family of a space's axes with free ratios; the axes of others keep the most they can.

    Neither the space's divisor nor its ties hold.

    Recipes are rows of counts, (n, axes) integer arrays.

    Parameters
    ----------
    network
        The network.
    axes
        The family's axes that can be pruned.
    others
        Choices of axes outside the family that can't keep everything.
    """

    network: Network
    axes: tuple[FreeAxis, ...]
    others: tuple[Axis, ...]

    @classmethod
    def of(
        cls, space: PruningSpace, family: str, scores: Scores | None = None, *, quadratic: bool = False
    ) -> FreeSpace:
        """Return the axes of one of ``space.families`` (no blocks), scored where `scores` are given.

        Raises
        ------
        PruningError
            If all of them are too small to be pruned.
        """
        members = space.families[family]
        axes = []
        # what is tied is as free as the rest
        for one, kind in [(one, kind) for place, kind in members.items() for one in space.axes[place].addressed]:
            if one.part == "channels":
                made = _channels(space.network, space.network.unit[one.name], scores)
            elif (pattern := next((c for c in one.choices if isinstance(c, Pattern) and c.kind == kind), None)) is None:
                continue
            else:
                made = _weights(space.network, space.network.layer[one.name], pattern, scores)
            if made.most >= made.least:
                axes.append(replace(made, quadratic=quadratic))
        if not axes:
            raise PruningError(f"space: no unit or weight of its {family} is large enough to be pruned")
        rest = [one for place, axis in enumerate(space.axes) if place not in members for one in axis.addressed]
        others = tuple(one.only([0]) for one in rest if one.ratios[0] < 1)
        return cls(space.network, tuple(axes), others)

    @cached_property
    def ends(self) -> Counts:
        """The row of fewest and the row of most counts."""
        return np.array([[axis.least for axis in self.axes], [axis.steps for axis in self.axes]])

    def nearest(self, ratios: Floats) -> Counts:
        """Return the rows nearest to the (n, axes) ratios."""
        return np.stack([axis.nearest(ratios[:, i]) for i, axis in enumerate(self.axes)], 1)

    def costs(self, rows: Counts, metric: str) -> Counts:
        """Return one of `spaces.COSTS` of the (n, axes) rows."""
        axes, places = list(self.others), [np.zeros(len(rows), dtype=np.int64)] * len(self.others)
        for i, axis in enumerate(self.axes):
            counts, place = np.unique(rows[:, i], return_inverse=True)
            axes.append(Axis(axis.part, axis.name, tuple(axis.choice(count) for count in counts.tolist())))
            places.append(place)
        return CostModel(self.network, axes)(np.stack(places, 1))[metric]

    def recipe(self, row: Counts) -> Recipe:
        """Return the canonical recipe of a row."""
        chosen: dict[str, dict[str, Choice]] = {"channels": {}, "weights": {}, "blocks": {}}
        for other in self.others:
            chosen[other.part][other.name] = other.choices[0]
        for axis, count in zip(self.axes, row.tolist(), strict=True):
            if count < axis.steps and (choice := axis.choice(count)) is not None:
                chosen[axis.part][axis.name] = choice
        recipe = Recipe.of(chosen["channels"], chosen["weights"], list(chosen["blocks"]))  # type: ignore[arg-type]
        return recipe.canonical(self.network)


def allocated_family(space: PruningSpace, family: str | None = None, key: str = "family") -> str:
    """Return which of a space's families is allocated: the one named, or the only one that holds no blocks.

    Parameters
    ----------
    space
        The space.
    family
        One of ``space.families``; of ``tile(width=16)`` the granularity will do.
    key
        What the user calls it, for errors.

    Raises
    ------
    PruningError
        If there is no such family, or several and none is named.
    """
    names = [name for name in space.families if name != "blocks"]
    if family is None and len(names) == 1:
        return names[0]
    if not names:
        raise PruningError(f"{key}: the space has blocks only, allocated are ratios of channels or weights")
    if family is None:
        raise PruningError(f"{key}: not given, and needed in a space of several: {', '.join(names)}")
    found = [name for name in names if family in (name, name.partition("(")[0])]
    if len(found) != 1:
        raise unknown(key, family, names)
    return found[0]


def _channels(network: Network, unit: ChannelUnit, scores: Scores | None) -> FreeAxis:
    lengths = [
        [dim.length for dim in tensor.dims]
        for tensor in network.tensors
        if len(tensor.dims) > 1 and any(unit.name in dim.units and not dim.reads for dim in tensor.dims)
    ] or [[unit.channels]]
    steps = np.empty(0)
    if scores is not None:
        # every group keeps equally many: a step is the next best channel of each
        best = np.sort(scores.channels[unit.name].numpy().reshape(unit.groups, -1))[:, ::-1]
        steps = _normalised(best.mean(0))
    entries, spread = sum(map(prod, lengths)), sum(map(sum, lengths))
    return FreeAxis("channels", unit.name, unit.steps, 1, unit.steps - 1, None, None, entries, spread, steps)


def _weights(network: Network, layer: Layer, pattern: Pattern, scores: Scores | None) -> FreeAxis:
    gemm = Gemm.of(network, layer)
    sizes = gemm.dense
    kernel = pattern.granularity == "kernel"
    steps = min(_FINEST, _parts(pattern, gemm))
    least, most = 1, steps - 1
    if pattern.granularity == "tile_element":
        # by the sixth digit at least, which is all that a recipe tells
        least = floor((pattern.delta + 1e-6) * steps) + 1
    if pattern.granularity == "tile_vector":
        most = min(most, floor(pattern.n / pattern.m * steps + 1e-9))
    falling = np.empty(0)
    if scores is not None:
        values = scores.weights[layer.weight].detach().float().cpu()
        flat = values.flatten(2).square().sum(2).sqrt() if kernel and values.dim() > 2 else values
        falling = _normalised(flat.flatten().sort(descending=True).values.double().numpy())
    spread = sum(gemm.lengths)
    return FreeAxis("weights", layer.name, steps, least, most, gemm, pattern, int(sizes.entries), spread, falling)


def _parts(pattern: Pattern, gemm: Gemm) -> int:
    """Return how many parts of a matrix a pattern's ratio counts."""
    sizes = gemm.dense
    columns = sizes.columns // sizes.groups
    clamped = gemm.clamped(pattern)
    blocks = {"block": clamped.height, "tile": 1, "tile_vector": 1}
    if pattern.granularity == "vector":
        return pattern.m
    if pattern.granularity in blocks:
        return int(ceil(sizes.rows / blocks[pattern.granularity]) * ceil(columns / clamped.width) * sizes.groups)
    return int(sizes.entries // (sizes.kernel if pattern.granularity == "kernel" else 1))


def _normalised(scores: Floats) -> Floats:
    """Return scores in units of their mean: one threshold over raw ones would empty the layers of small weights."""
    return scores / max(float(scores.mean()), 1e-300)
