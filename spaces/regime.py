"""Budgets and regimes: the part of a space whose costs lie within bounds, and sampling inside it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from spaces.cost import COSTS
from spaces.errors import PruningError, unknown

if TYPE_CHECKING:
    from spaces.space import PruningSpace

__all__ = ["Budget", "Count", "Sample", "count_inside", "sample_inside"]

MAX_DRAWS = 20_000_000
_ENUMERABLE = 2_000_000
_BLOCK = 1 << 17
_WALKERS = 2048
_WALK_STEPS = 2000


@dataclass(frozen=True)
class Budget:
    """Bounds on exact costs, as (metric, low, high); values up to 1 are relative to the dense network.

    Examples
    --------
    >>> Budget.parse({"flops": 0.5, "params": ["100k", "0.2M"]}).bounds
    (('flops', 0.0, 0.5), ('params', 100000.0, 200000.0))
    """

    bounds: tuple[tuple[str, float, float], ...] = ()

    @classmethod
    def parse(cls, config: Mapping[str, Any], key: str = "budget") -> Budget:
        """Return the budget written as ``{metric: limit or [low, high]}``; a limit of None is no limit.

        Parameters
        ----------
        config
            Metrics of `COSTS`. A number up to 1 is relative to dense, a larger one or ``60M`` absolute.
        key
            What the user called the mapping, for errors.

        Raises
        ------
        PruningError
            If a metric is unknown, a value is no positive amount, or a range is upside down.
        """
        if not isinstance(config, Mapping):
            raise PruningError(f"{key}: expected a mapping such as flops: 0.5, got {config!r}")
        bounds = []
        for metric, limit in config.items():
            if metric not in COSTS:
                raise unknown(key, metric, COSTS)
            if limit is None:
                continue
            pair = list(limit) if isinstance(limit, Sequence) and not isinstance(limit, str) else [0, limit]
            if len(pair) != 2:
                raise PruningError(f"{key}.{metric}: {limit!r} is neither a limit nor a pair [low, high]")
            low, high = (_amount(f"{key}.{metric}", value) for value in pair)
            if high <= 0 or low > high:
                raise PruningError(
                    f"{key}.{metric}: {limit!r} leaves nothing, allowed is 0 <= low <= high and high > 0"
                )
            bounds.append((metric, low, high))
        return cls(tuple(bounds))

    @classmethod
    def regime(cls, flops: float, tol: float) -> Budget:
        """Return the budget of all recipes with ``abs(FLOPs / dense FLOPs - flops) <= tol``.

        Raises
        ------
        PruningError
            If `flops` is not in (0, 1] or `tol` is negative.
        """
        if not 0 < flops <= 1 or tol < 0:
            raise PruningError(f"regime: {flops=} and {tol=}, allowed is 0 < flops <= 1 and tol >= 0")
        return cls((("flops", max(0.0, flops - tol), min(1.0, flops + tol)),))

    def __bool__(self) -> bool:
        return bool(self.bounds)

    def __and__(self, other: Budget) -> Budget:
        """Return the budget that asks for both."""
        return Budget(tuple(dict.fromkeys(self.bounds + other.bounds)))

    def absolute(self, dense: Mapping[str, float]) -> list[tuple[str, float, float]]:
        """Return the bounds as amounts (multiply-adds, parameters, bytes), given the dense network's costs."""
        return [
            (metric, *(value * dense[metric] if value <= 1 else value for value in (low, high)))  # type: ignore[misc]
            for metric, low, high in self.bounds
        ]

    def excess(
        self, costs: Mapping[str, npt.NDArray], dense: Mapping[str, float]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Return for each bounded metric by how much costs lie outside, relative to the dense cost; <= 0 inside."""
        out: dict[str, npt.NDArray[np.float64]] = {}
        for metric, low, high in self.absolute(dense):
            # relative limits are products of floats: half a unit of an integer cost absorbs their rounding
            excess = np.maximum(low - costs[metric] - 0.5, costs[metric] - high - 0.5) / dense[metric]
            out[metric] = np.maximum(out[metric], excess) if metric in out else excess
        return out

    def inside(self, space: PruningSpace, rows: npt.NDArray) -> npt.NDArray[np.bool_]:
        """Return which of the (n, axes) rows respect the budget."""
        return self.violation(space, rows) <= 0

    def violation(self, space: PruningSpace, rows: npt.NDArray) -> npt.NDArray[np.float64]:
        """Return the summed relative excess of the (n, axes) rows; 0 inside."""
        if not self.bounds or not len(rows):
            return np.zeros(len(rows))
        excess = self.excess(space.costs(rows), space.dense)
        return np.sum([np.maximum(value, 0) for value in excess.values()], axis=0)


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
    _refuse_empty(space, limits)
    found: list[npt.NDArray] = []
    draws = hits = 0
    best = np.empty((0, len(space.axes)), dtype=np.int16)
    best_violation = np.empty(0)
    block = max(_WALKERS, n)
    while hits < n and draws < max_draws:
        block = min(2 * block, _BLOCK, max_draws - draws)
        rows = space.sample(block, rng, measure)
        violation = limits.violation(space, rows)
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
    violation = limits.violation(space, rows)
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
        proposed = limits.violation(space, moved)
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


def _refuse_empty(space: PruningSpace, limits: Budget) -> None:
    """Raise if the space's least or greatest cost, both exact, already lies outside a bound."""
    dense = space.dense
    both: dict[str, tuple[float, float]] = {}
    for metric, low, high in limits.absolute(dense):
        others = both.get(metric, (low, high))
        both[metric] = max(low, others[0]), min(high, others[1])
    for metric, (low, high) in both.items():
        least, most = space.bounds[metric]
        if high + 0.5 < least or low - 0.5 > most or low > high + 1:
            raise PruningError(
                f"budget.{metric}: [{low / dense[metric]:.4g}, {high / dense[metric]:.4g}] of dense holds no recipe, "
                f"the space reaches {least / dense[metric]:.4g} to {most / dense[metric]:.4g}"
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

    Spaces up to two million recipes are enumerated; larger ones sampled, with Wilson's score interval.
    """
    limits = space.constraints & budget if budget else space.constraints
    if not limits:
        return Count(space.size, space.size, space.size)
    if space.size <= _ENUMERABLE:
        starts = range(0, space.size, _BLOCK)
        inside = sum(int(limits.inside(space, space.rows(s, min(space.size, s + _BLOCK))).sum()) for s in starts)
        return Count(inside, inside, inside)
    hits = int(limits.inside(space, space.sample(draws, rng)).sum())
    low, high = _wilson(hits, draws)
    # in whole numbers, because a size may exceed what a float holds
    value, least, most = (Fraction(share) * space.size for share in (hits / draws, low, high))
    return Count(round(value), math.floor(least), math.ceil(most))


def _wilson(hits: int, draws: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; with no hit the exact one-sided bound."""
    if hits == 0:
        return 0.0, 1 - 0.05 ** (1 / draws)
    share = hits / draws
    centre = share + z * z / (2 * draws)
    spread = z * math.sqrt(share * (1 - share) / draws + z * z / (4 * draws * draws))
    scale = 1 + z * z / draws
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


_SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def _amount(key: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)\s*", str(value).lower())
    if match is None or isinstance(value, bool):
        raise PruningError(f"{key}: {value!r} is no amount, allowed is a share up to 1 or a number such as 60M or 4.1G")
    return float(match[1]) * _SUFFIX[match[2]]
