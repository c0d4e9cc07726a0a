"""Regimes: sampling and counting the recipes of a space whose costs lie within bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from spaces.budget import RHO, Budget
from spaces.cost import COSTS
from spaces.errors import PruningError
from spaces.histogram import Histogram
from spaces.space import PruningSpace

__all__ = ["Count", "Sample", "count_inside", "reach", "refuse_out_of_reach", "sample_inside"]

MAX_DRAWS = 20_000_000
_ENUMERABLE = 2_000_000
_BLOCK = 1 << 17
_WALKERS = 2048
_WALK_STEPS = 2000
# hits below which a share of draws tells little
_RARE = 400


@dataclass(frozen=True)
class Sample:
    """Rows inside a budget, and how they were found.

    `uniform` says whether all rows come from rejection (then they are uniform in the measure); `draws` is how
    many rows were drawn, and `hits` how many of those lay inside.
    """

    rows: npt.NDArray[np.int16]
    uniform: bool
    draws: int
    hits: int


def sample_inside(
    space: PruningSpace,
    n: int,
    rng: np.random.Generator,
    *,
    budget: Budget | None = None,
    measure: str = "recipes",
    max_draws: int = MAX_DRAWS,
) -> Sample:
    """Return n rows of `space` that respect its constraints and `budget`.

    Rows are drawn and rejected; where `max_draws` draws give fewer than n, the rest comes from random walks
    that begin at the best rows seen, descend into the budget and wander inside it.

    Raises
    ------
    PruningError
        If bounds prove that no recipe is inside, or if neither draws nor walks find one.
    """
    limits = space.constraints & budget if budget else space.constraints
    refuse_out_of_reach(space, limits)
    found: list[npt.NDArray] = []
    draws = hits = 0
    best = np.empty((0, len(space.axes)), dtype=np.int16)
    best_violation = np.empty(0)
    block = max(_WALKERS, n)
    while hits < n and draws < max_draws:
        block = min(2 * block, _BLOCK, max_draws - draws)
        rows = space.sample(block, rng, measure)
        violation = space.violation(rows, limits)
        draws += block
        found.append(rows[violation <= 0])
        hits += len(found[-1])
        pool = np.concatenate([best_violation, violation])
        order = np.argpartition(pool, min(_WALKERS, len(pool)) - 1)[:_WALKERS]
        best, best_violation = np.concatenate([best, rows])[order], pool[order]
    drawn = np.concatenate(found)[:n] if found else best
    if len(drawn) == n:
        return Sample(drawn, True, draws, hits)
    walked = _walk(space, limits, best, n - len(drawn), rng)
    if not len(walked):
        share = 1 - 0.05 ** (1 / max(1, draws))
        raise PruningError(
            f"{_words(limits)}: none found in {draws:,} draws and a local search, share below {share:.2g} with 95 %"
        )
    return Sample(np.concatenate([drawn, walked]), False, draws, hits)


def _walk(
    space: PruningSpace, limits: Budget, start: npt.NDArray, n: int, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Return n rows inside `limits` reached by single-axis moves from `start`, or none if no walker arrives."""
    rows = start[rng.integers(0, len(start), _WALKERS)]
    violation = space.violation(rows, limits)
    walkers = np.arange(_WALKERS)
    shape = np.array(space.shape)
    visited: list[npt.NDArray] = []
    count = 0
    for step in range(_WALK_STEPS):
        axis = rng.integers(0, len(shape), _WALKERS)
        moved = rows.copy()
        # mostly one choice up or down, sometimes anywhere on the axis, so that no walker is trapped
        jump = rng.random(_WALKERS) < 0.1
        near = np.clip(rows[walkers, axis] + rng.choice([-1, 1], _WALKERS), 0, shape[axis] - 1)
        moved[walkers, axis] = np.where(jump, rng.integers(0, shape[axis]), near)
        moved = space.canonical(moved)
        proposed = space.violation(moved, limits)
        better = proposed <= violation
        rows, violation = np.where(better[:, None], moved, rows), np.where(better, proposed, violation)
        if step % len(shape) == len(shape) - 1 or step == _WALK_STEPS - 1:
            visited.append(rows[violation <= 0])
            count += len(visited[-1])
            if count >= 2 * n:
                break
    inside = np.concatenate(visited)
    return (
        inside[rng.permutation(len(inside))[:n]]
        if len(inside) >= n
        else np.resize(inside, (n if len(inside) else 0, len(shape)))
    )


def refuse_out_of_reach(space: PruningSpace, limits: Budget) -> None:
    """Raise if the space's least or greatest cost, both exact, already lies outside a bound."""
    dense = space.dense
    both: dict[str, tuple[float, float]] = {}
    for metric, low, high in limits.absolute(dense):
        others = both.get(metric, (low, high))
        both[metric] = max(low, others[0]), min(high, others[1])
    # between which amounts costs lie, by the space and by the bounds
    ends = dict(space.bounds)
    for metric, (low, high) in both.items():
        if metric == RHO:
            continue
        least, most = space.bounds[metric]
        if high + 0.5 < least or low - 0.5 > most or low > high + 1:
            raise PruningError(
                f"budget.{metric}: [{low / dense[metric]:.4g}, {high / dense[metric]:.4g}] of dense holds no recipe, "
                f"the space reaches {least / dense[metric]:.4g} to {most / dense[metric]:.4g}"
            )
        ends[metric] = max(least, math.ceil(low - 0.5)), min(most, math.floor(high + 0.5))
    if RHO in both:
        (low, high), scale = both[RHO], dense["params"] / dense["flops"]
        least_rho = ends["flops"][0] / max(1, ends["params"][1]) * scale
        most_rho = ends["flops"][1] / max(1, ends["params"][0]) * scale
        if high < least_rho * (1 - 1e-9) or low > most_rho * (1 + 1e-9) or low > high:
            raise PruningError(
                f"budget.rho: [{low:.4g}, {high:.4g}] holds no recipe, "
                f"the space reaches at most {least_rho:.4g} to {most_rho:.4g}"
            )


def _words(limits: Budget) -> str:
    return "budget " + ", ".join(f"{metric}=[{low:g}, {high:g}]" for metric, low, high in limits.bounds)


@dataclass(frozen=True)
class Count:
    """How many recipes lie inside a budget: exact where low == high, else a 95 % interval around `value`."""

    value: float
    low: float
    high: float

    @property
    def exact(self) -> bool:
        return self.low == self.high


def count_inside(
    space: PruningSpace, rng: np.random.Generator, *, budget: Budget | None = None, draws: int = 200_000
) -> Count:
    """Return the number of recipes inside the constraints and `budget`.

    Spaces up to two million recipes are enumerated. Larger ones are sampled, with Wilson's score interval; where that
    finds too few to tell, the recipes of the bounded cost are counted by a `Histogram`, and the share of those inside
    the other limits is sampled.
    """
    limits = space.constraints & budget if budget else space.constraints
    if not limits:
        return Count(space.size, space.size, space.size)
    if space.size <= _ENUMERABLE:
        starts = range(0, space.size, _BLOCK)
        inside = sum(int(space.inside(space.rows(s, min(space.size, s + _BLOCK)), limits).sum()) for s in starts)
        return Count(inside, inside, inside)
    size = space.size
    hits = int(space.inside(space.sample(draws, rng), limits).sum())
    if hits < _RARE and (histogram := _histogram(space, limits)) is not None:
        only = {metric for metric, _, _ in limits.bounds}
        if not histogram.count or (histogram.exact and len(only) == 1 and RHO not in only):
            return Count(histogram.count, histogram.count, histogram.count)
        size, draws = histogram.count, min(draws, _RARE * 50)
        hits = int(space.inside(histogram.draw(draws, rng), limits).sum())
    low, high = _wilson(hits, draws)
    # in whole numbers, because a size may exceed what a float holds
    value, least, most = (Fraction(share) * size for share in (hits / draws, low, high))
    return Count(round(value), math.floor(least), math.ceil(most))


def _histogram(space: PruningSpace, limits: Budget) -> Histogram | None:
    """Return the recipes by the first cost that is bounded; None where there is none, or no histogram."""
    bounded = {metric for metric, _, _ in limits.bounds}
    metric = next((metric for metric in COSTS if metric in bounded), None)
    return None if metric is None else Histogram.of(space, metric, *reach(space, limits, metric))


def reach(space: PruningSpace, limits: Budget, metric: str) -> tuple[float, float]:
    """Return between which amounts a cost lies, by the space and by its limits."""
    least, most = map(float, space.bounds[metric])
    for bounded, low, high in limits.absolute(space.dense):
        if bounded == metric:
            # half a unit, as limits have it
            least, most = max(least, low - 0.5), min(most, high + 0.5)
    return least, most


def _wilson(hits: int, draws: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; with no hit the exact one-sided bound."""
    if hits == 0:
        return 0.0, 1 - 0.05 ** (1 / draws)
    share = hits / draws
    centre = share + z * z / (2 * draws)
    spread = z * math.sqrt(share * (1 - share) / draws + z * z / (4 * draws * draws))
    scale = 1 + z * z / draws
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
