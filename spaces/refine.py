"""Refinement: a smaller space from a space and the bands in which the best recipes of a population lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import yaml

from spaces.axis import Axis
from spaces.budget import BOUNDED, RHO, Budget
from spaces.errors import PruningError, unknown
from spaces.neighbourhood import entries_of
from spaces.regime import Count, count_inside
from spaces.space import PruningSpace

__all__ = ["Refinement", "refine", "space_file_of"]

_DIGITS = 4


@dataclass(frozen=True)
class Refinement:
    """A refined space.

    Attributes
    ----------
    config
        Its space file.
    narrowed
        What the bands narrow: ``rho``, and labels of axes that lost choices.
    before, after
        How many recipes the old space and the refined one hold, inside the same budget.
    """

    config: Mapping[str, Any]
    narrowed: tuple[str, ...]
    before: Count
    after: Count

    @property
    def share(self) -> float:
        """The refined space's size relative to the old one's."""
        return float(Fraction(self.after.value) / (Fraction(self.before.value) or 1))

    def to_yaml(self) -> str:
        """Return the space file's text, as ``space=file`` takes it, with a comment that says how small it is."""
        exact = "exactly" if self.before.exact and self.after.exact else "about"
        sizes = f"{exact} {_short(self.after.value)} of {_short(self.before.value)} recipes"
        head = f"# refined in {', '.join(self.narrowed) or 'nothing'}: {sizes} ({self.share:.3g})\n"
        return head + yaml.safe_dump(dict(self.config), sort_keys=False, default_flow_style=None, width=120)


def refine(
    space: PruningSpace,
    bands: Mapping[str, tuple[float, float]],
    rng: np.random.Generator,
    *,
    budget: Budget | None = None,
) -> Refinement:
    """Return the space of those recipes whose statistics lie within bands.

    Parameters
    ----------
    space
        The old space.
    bands
        (least, most) of ``rho``, which becomes a constraint, and of the ratios of axes by label, such as
        ``channels.layer1.0.conv1``, which leaves the choices inside. An axis of which none is inside keeps the nearest.
    rng
        For sizes that are estimated.
    budget
        The regime that the bands were found in: a constraint of the refined space too.

    Raises
    ------
    PruningError
        If a band is of nothing in the space or upside down, or no recipe is left.
    """
    labels = {axis.label: axis for axis in space.axes}
    for name, (low, high) in bands.items():
        if name != RHO and name not in labels:
            raise unknown("refine", name, [RHO, *labels])
        if not low <= high:
            raise PruningError(f"refine.{name}: [{low:g}, {high:g}] leaves nothing, allowed is low <= high")
    axes = tuple(_narrowed(axis, *bands[axis.label]) if axis.label in bands else axis for axis in space.axes)
    limits = space.constraints & (budget or Budget())
    if RHO in bands:
        # outwards, so that what made the band is inside
        low, high = bands[RHO]
        scale = 10**_DIGITS
        limits = limits & Budget(((RHO, math.floor(low * scale) / scale, math.ceil(high * scale) / scale),))
    refined = PruningSpace(space.network, axes, Budget(tuple(_joined(limits, space.dense))), divisor=space.divisor)
    lost = {old.label for old, new in zip(space.axes, axes, strict=True) if len(new.choices) < len(old.choices)}
    narrowed = [name for name in bands if name == RHO or name in lost]
    before, after = count_inside(space, rng, budget=budget), count_inside(refined, rng)
    if not after.high:
        raise PruningError(f"refine: no recipe is left, allowed are wider bands than {dict(bands)}")
    return Refinement(space_file_of(refined), tuple(narrowed), before, after)


def space_file_of(space: PruningSpace) -> dict[str, Any]:
    """Return the space file of a space, an entry for every axis: `PruningSpace.from_config` gives its axes again."""
    out = entries_of(space.axes)
    if space.divisor > 1:
        out["divisor"] = space.divisor
    if ties := list(dict.fromkeys(axis.name for axis in space.axes if axis.members)):
        out["tie"] = ties
    bounds = _joined(space.constraints, space.dense)
    return out | ({"constraints": {metric: [low, high] for metric, low, high in bounds}} if bounds else {})


def _narrowed(axis: Axis, low: float, high: float) -> Axis:
    """Return an axis with the choices that keep between `low` and `high`, or with the nearest to that."""
    away = [max(low - ratio, ratio - high, 0.0) for ratio in axis.ratios]
    # a ratio that was written down and read again may differ in its last digit
    kept = [i for i, distance in enumerate(away) if distance <= 1e-9] or [int(np.argmin(away))]
    return axis.only(kept)


def _joined(limits: Budget, dense: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return the bounds with one for every metric; of several that are not all shares as a share of dense."""
    out = []
    for metric in BOUNDED:
        given = [(low, high) for name, low, high in limits.bounds if name == metric]
        if not given:
            continue
        if len(given) > 1 and metric != RHO and any(high > 1 for _, high in given):
            amounts = [(low, high) for name, low, high in limits.absolute(dense) if name == metric]
            given = [(low / dense[metric], min(1.0, high / dense[metric])) for low, high in amounts]
        low, high = max(low for low, _ in given), min(high for _, high in given)
        if low > high:
            raise PruningError(
                f"refine: {metric} above {low:.4g} and below {high:.4g}, allowed is a range that is left"
            )
        out.append((metric, low, high))
    return out


def _short(value: float) -> str:
    return f"{int(value):,}" if value < 1e6 else f"{float(value):.3g}"
