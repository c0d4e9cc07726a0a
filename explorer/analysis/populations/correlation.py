"""Rank correlations with intervals: structural statistics with error, and cheap scores with fine-tuned error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from explorer.analysis.populations.adjusting import holm
from spaces import PruningError

__all__ = ["rank_correlations"]


def rank_correlations(table: pd.DataFrame, columns: Sequence[str], target: str = "error") -> pd.DataFrame:
    """Return Spearman's and Kendall's correlation of each column with `target`, one row a column.

    Parameters
    ----------
    table
        One row a recipe. Rows in which a column or the target is no finite number do not count for that column.
    columns
        What is correlated.
    target
        With what, such as ``error``.

    Returns
    -------
    pandas.DataFrame
        ``statistic``, ``n``, ``spearman`` with its 95 % interval (``_low``, ``_high``, Bonett and Wright 2000),
        ``kendall`` (tau-b) with its (Fieller, Hartley and Pearson 1957), ``p`` of Spearman's and ``p_corrected`` for
        all columns (Holm). All of it is NaN for a column that has fewer than 5 rows or one value only.

    Raises
    ------
    PruningError
        If a column is not there.

    Examples
    --------
    >>> table = pd.DataFrame({"error": [0.1, 0.2, 0.3, 0.4, 0.5], "loss": [1, 2, 4, 3, 5]})
    >>> rank_correlations(table, ["loss"])[["n", "spearman", "kendall"]].round(2).to_numpy().tolist()
    [[5.0, 0.9, 0.8]]
    """
    for column in (*columns, target):
        if column not in table:
            raise PruningError(f"correlation: no column {column!r}, it has {', '.join(map(str, table.columns[:12]))}")
    rows = []
    for column in columns:
        pair = table[[column, target]].to_numpy(dtype=float)
        x, y = pair[np.isfinite(pair).all(1)].T
        row: dict[str, object] = {"statistic": column, "n": len(x)}
        if len(x) < 5 or np.ptp(x) == 0 or np.ptp(y) == 0:
            names = ("spearman", "kendall")
            row |= {f"{name}{end}": math.nan for name in names for end in ("", "_low", "_high")} | {"p": math.nan}
        else:
            spearman, kendall = stats.spearmanr(x, y), stats.kendalltau(x, y)
            row |= _with_interval("spearman", float(spearman.statistic), len(x))
            row |= _with_interval("kendall", float(kendall.statistic), len(x))
            row["p"] = float(spearman.pvalue)
        rows.append(row)
    found = pd.DataFrame(rows)
    return found.assign(p_corrected=holm(found["p"].to_numpy()))


def _with_interval(name: str, value: float, n: int) -> dict[str, float]:
    """Return a correlation and its interval, made where it is about normal: on the scale of its inverse tanh."""
    variance = (1 + value**2 / 2) / max(1, n - 3) if name == "spearman" else 0.437 / max(1, n - 4)
    # a perfect correlation has no inverse
    centre = np.arctanh(np.clip(value, -1 + 1e-9, 1 - 1e-9))
    low, high = np.tanh(centre + 1.96 * np.sqrt(variance) * np.array([-1, 1]))
    return {name: value, f"{name}_low": min(float(low), value), f"{name}_high": max(float(high), value)}
