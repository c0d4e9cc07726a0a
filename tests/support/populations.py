"""Populations of which the answers are known: errors made up from FLOPs, parameters and a planted optimum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from explorer.analysis.populations import Population

DENSE = {"flops": 1e8, "params": 1e6}


def made_up(
    n: int,
    seed: int | list[int],
    /,
    *,
    optimum: float | None = 1.0,
    noise: float = 0.06,
    slope: float = 0.0,
    **others: Any,
) -> pd.DataFrame:
    """Return a table of n recipes whose error is least at a planted rho; None plants none.

    Parameters
    ----------
    n, seed
        How many, and of what randomness.
    optimum
        The rho of least error.
    noise
        Standard deviation of what rho and FLOPs do not explain.
    slope
        How error changes with log rho besides.
    others
        Columns to add, such as ``network``.
    """
    rng = np.random.default_rng(seed)
    x, share = rng.normal(0, 0.15, n), rng.uniform(0.48, 0.52, n)
    bowl = 0.0 if optimum is None else 2 * (x - np.log(optimum)) ** 2
    error = 0.4 + bowl + slope * x - 0.5 * (share - 0.5) + noise * rng.gamma(4, 0.5, n)
    flops = DENSE["flops"] * share
    table = pd.DataFrame({"error": error, "flops": flops, "params": flops / (np.exp(x) * 100)})
    for layer in range(6):
        table[f"channels.layer{layer // 2 + 1}.{layer % 2}.conv1"] = rng.choice(np.arange(1, 9) / 8, n)
    return table.assign(**others)


def population(n: int, seed: int | list[int], name: str = "one", /, **options: Any) -> Population:
    """Return the population of `made_up`."""
    return Population.of(made_up(n, seed, **options), name, dense=DENSE)
