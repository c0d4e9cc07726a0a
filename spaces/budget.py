"""Budget: bounds on the exact costs of recipes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from spaces.cost import COSTS
from spaces.errors import PruningError, unknown

__all__ = ["BOUNDED", "RHO", "Budget", "check_cost"]

RHO = "rho"
"""FLOPs per parameter, relative to the dense network: a ratio, always exact and never absolute."""

BOUNDED = (*COSTS, RHO)
"""What a budget can bound."""


@dataclass(frozen=True)
class Budget:
    """Bounds on exact costs, as (metric, low, high); costs up to 1 are relative to the dense network.

    Examples
    --------
    >>> Budget.parse({"flops": 0.5, "params": ["100k", "0.2M"], "rho": [0.9, 1.2]}).bounds
    (('flops', 0.0, 0.5), ('params', 100000.0, 200000.0), ('rho', 0.9, 1.2))
    """

    bounds: tuple[tuple[str, float, float], ...] = ()

    @classmethod
    def parse(cls, config: Mapping[str, Any], key: str = "budget") -> Budget:
        """Return the budget written as ``{metric: limit or [low, high]}``; a limit of None is no limit.

        Parameters
        ----------
        config
            Metrics of `BOUNDED`. Of a cost a number up to 1 is relative to dense, a larger one or ``60M`` absolute.
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
            if metric not in BOUNDED:
                raise unknown(key, metric, BOUNDED)
            if limit is None:
                continue
            pair = list(limit) if isinstance(limit, Sequence) and not isinstance(limit, str) else [0, limit]
            if len(pair) != 2:
                raise PruningError(f"{key}.{metric}: {limit!r} is neither a limit nor a pair [low, high]")
            read = _ratio if metric == RHO else _amount
            low, high = (read(f"{key}.{metric}", value) for value in pair)
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
        """Return the bounds as amounts (multiply-adds, parameters, bytes, rho), given the dense network's costs.

        Raises
        ------
        PruningError
            If a bound is on a cost that the network has not.
        """
        for metric, _, _ in self.bounds:
            if metric != RHO:
                check_cost(metric, dense, "budget")
        return [
            (metric, low, high)
            if metric == RHO
            else (metric, *(value * dense[metric] if value <= 1 else value for value in (low, high)))  # type: ignore[misc]
            for metric, low, high in self.bounds
        ]

    def excess(
        self, costs: Mapping[str, npt.NDArray], dense: Mapping[str, float]
    ) -> dict[str, npt.NDArray[np.float64]]:
        """Return for each bounded metric by how much costs lie outside, relative to the dense cost; <= 0 inside."""
        out: dict[str, npt.NDArray[np.float64]] = {}
        for metric, low, high in self.absolute(dense):
            if metric == RHO:
                excess = _rho_excess(costs, dense, low, high)
            else:
                # relative limits are products of floats: half a unit of an integer cost absorbs their rounding
                excess = np.maximum(low - costs[metric] - 0.5, costs[metric] - high - 0.5) / dense[metric]
            out[metric] = np.maximum(out[metric], excess) if metric in out else excess
        return out

    def violation(self, costs: Mapping[str, npt.NDArray], dense: Mapping[str, float]) -> npt.NDArray[np.float64]:
        """Return the relative excess of costs, summed over the bounded metrics; 0 inside."""
        outside = [np.maximum(value, 0) for value in self.excess(costs, dense).values()]
        return np.sum([np.zeros(len(costs[COSTS[0]])), *outside], axis=0)


def _rho_excess(
    costs: Mapping[str, npt.NDArray], dense: Mapping[str, float], low: float, high: float
) -> npt.NDArray[np.float64]:
    """Return by how much FLOPs per parameter, relative to dense, lie outside [low, high].

    Whether a recipe is inside is decided in whole numbers wherever rounding could decide it: a bound of 0.9 is nine
    tenths, and a recipe of just that is inside.
    """
    scale = dense["params"] / dense["flops"]
    rho = np.asarray(costs["flops"] / np.maximum(costs["params"], 1) * scale, dtype=np.float64)
    excess = np.maximum(low - rho, rho - high)
    least, most = Fraction(str(low)), Fraction(str(high))
    for place in np.flatnonzero(np.abs(excess) < 1e-9 * max(1.0, high)):
        flops = int(costs["flops"][place]) * int(dense["params"])
        params = max(1, int(costs["params"][place])) * int(dense["flops"])
        inside = least * params <= flops <= most * params
        excess[place] = min(excess[place], 0.0) if inside else max(excess[place], np.finfo(np.float64).tiny)
    return excess


def check_cost(metric: str, dense: Mapping[str, float], key: str) -> None:
    """Check that a network whose dense costs these are has a cost; `key` is where it was asked for.

    Raises
    ------
    PruningError
        If it has not: memory is a cost of language models that hold keys and values.
    """
    if metric not in dense:
        known = ", ".join(cost for cost in COSTS if cost in dense)
        raise PruningError(f"{key}: {metric} is none of this network, which holds no keys and values; allowed: {known}")


_SUFFIX = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12}


def _amount(key: str, value: Any) -> float:
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([kmgt]?)\s*", str(value).lower())
    amount = math.nan
    if isinstance(value, float):
        amount = value
    elif match is not None and not isinstance(value, bool):
        amount = float(match[1]) * _SUFFIX[match[2]]
    if not 0 <= amount < math.inf:
        raise PruningError(f"{key}: {value!r} is no amount, allowed is a share up to 1 or a number such as 60M or 4.1G")
    return amount


def _ratio(key: str, value: Any) -> float:
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number < math.inf:
        raise PruningError(
            f"{key}: {value!r} is no ratio, allowed is a number from 0, of which 1 is the dense network's"
        )
    return number
