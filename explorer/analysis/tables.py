"""The tables of a study: one row an evaluated recipe, and the frontier among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from explorer.search.frontier import hypervolume, non_dominated
from explorer.search.history import Record
from explorer.search.metrics import METRICS, OBJECTIVES, Metric
from explorer.search.samplers import Observations
from spaces import PARTS, Axis, PruningSpace

__all__ = ["Scale", "at_rung", "frontier_table", "known_rows", "observations", "trials_table", "without_choices"]


class Scale:
    """The columns of the objectives, and the reference point of their hypervolume.

    Parameters
    ----------
    objectives
        Keys of `OBJECTIVES`, costs last.
    trivial
        Reference of each metric that is no cost: what a predictor that knows nothing reaches
        (1 - 1/classes for an error). Costs are relative to dense, their reference is 1.
    error
        How the column ``error`` is called and shown, which is what the task minimises.
    """

    def __init__(
        self, objectives: Sequence[str], trivial: Mapping[str, float], error: Metric = METRICS["error"]
    ) -> None:
        self.objectives = list(objectives)
        self.error = error
        self.columns = [OBJECTIVES[objective] for objective in objectives]
        self.reference = [trivial.get(column, 1.0) for column in self.columns]

    def trivial(self, column: str) -> float | None:
        """Return the value of a predictor that knows nothing, None for a column that is no objective."""
        return dict(zip(self.columns, self.reference, strict=True)).get(column)

    def hypervolume(self, trials: pd.DataFrame) -> float:
        """Return the hypervolume of the trials that ended well at the highest rung, see `at_rung`."""
        finished = at_rung(trials)
        return hypervolume(finished[self.columns].to_numpy(dtype=float), self.reference)


def trials_table(space: PruningSpace, records: Sequence[Record]) -> pd.DataFrame:
    """Return one row a record, in order.

    Columns: ``trial``, ``state``, ``reason``, ``source``, ``rung`` (the last that ended well), the metrics measured
    there, with several rungs the error at each as ``error_rung0`` ... (with racing ``validation_inputs_rung0`` ...),
    every cost absolute and as ``_ratio`` to dense, ``mcb`` (FLOPs per parameter) and ``rho`` (that relative to dense),
    ``seconds``, and the choice on every axis:
    ``channels.UNIT`` and ``blocks.BLOCK`` a ratio, ``weights.LAYER`` a pattern as text or nothing where the weight is
    dense. ``granularity`` is the recipe's only one, ``dense`` or ``mixed``.
    """
    rows = np.array([record.row for record in records], dtype=np.int16).reshape(len(records), len(space.axes))
    dense, costs = space.dense, space.costs(rows)
    columns: dict[str, object] = {
        "trial": np.arange(len(records)),
        "state": [record.state for record in records],
        "reason": [record.reason for record in records],
        "source": [record.source for record in records],
        "rung": [record.rung for record in records],
    }
    measured = dict.fromkeys(["error", "error_se", "loss"])
    measured |= dict.fromkeys(name for record in records for name in record.metrics if name != "seconds")
    for name in measured:
        columns[name] = np.array([record.metrics.get(name, np.nan) for record in records], dtype=float)
    highest = max((record.rung for record in records), default=0)
    for rung in range(highest + 1 if highest else 0):
        reached = [[*record.lower, record.metrics] for record in records]
        errors = [metrics[rung].get("error", np.nan) if rung < len(metrics) else np.nan for metrics in reached]
        columns[f"error_rung{rung}"] = np.array(errors, dtype=float)
        if "validation_inputs" in columns:
            seen = [m[rung].get("validation_inputs", np.nan) if rung < len(m) else np.nan for m in reached]
            columns[f"validation_inputs_rung{rung}"] = np.array(seen, dtype=float)
    for name, values in costs.items():
        columns[name] = values
        columns[f"{name}_ratio"] = values / dense[name]
    columns["mcb"] = costs["flops"] / costs["params"]
    columns["rho"] = columns["mcb"] / (dense["flops"] / dense["params"])  # type: ignore[operator]
    columns["seconds"] = np.array([record.metrics.get("seconds", np.nan) for record in records], dtype=float)
    columns["granularity"] = [space.recipe(row).granularity(space.network) for row in rows]
    for i, axis in enumerate(space.axes):
        named = [str(choice) if axis.part == "weights" and choice is not None else choice for choice in axis.choices]
        columns[axis.label] = np.array(named)[rows[:, i]]
    return pd.DataFrame(columns)


def frontier_table(trials: pd.DataFrame, scale: Scale, rung: int | None = None) -> pd.DataFrame:
    """Return the non-dominated of the trials that ended well at a rung, cheapest first, same columns.

    Parameters
    ----------
    trials
        As `trials_table` makes it.
    scale
        The objectives.
    rung
        By default the highest that any trial ended well, see `at_rung`.
    """
    finished = at_rung(trials, rung)
    best = finished[non_dominated(finished[scale.columns].to_numpy(dtype=float))]
    return best.sort_values([scale.columns[-1], scale.columns[0]], kind="stable").reset_index(drop=True)


def at_rung(trials: pd.DataFrame, rung: int | None = None) -> pd.DataFrame:
    """Return the trials that ended well at a rung and saw all validation inputs there, with the error at that rung.

    Errors of different rungs are not compared: a network that was trained longer is no other recipe. Of a trial that
    went on to a higher rung the other metrics are not known, and NaN.

    A race ends where another recipe of the rung is sure to be better. That one may become worse at its next rung, and
    leave a value on the frontier that was measured on a few inputs. The first recipe of every rung sees all.

    Parameters
    ----------
    trials
        As `trials_table` makes it.
    rung
        By default the highest that any trial ended well.
    """
    finished = trials[trials["state"] == "COMPLETE"]
    if "rung" in finished and len(finished):
        wanted = finished["rung"].max() if rung is None else rung
        finished = finished[finished["rung"] >= wanted].copy()
        above = finished["rung"] > wanted
        if above.any():
            finished.loc[above, [name for name in ("error_se", "loss") if name in finished]] = np.nan
            for name in ("error", "validation_inputs"):
                if name in finished:
                    finished.loc[above, name] = finished.loc[above, f"{name}_rung{wanted}"]
            finished["rung"] = wanted
    if "validation_inputs" not in finished:
        return finished
    seen = finished["validation_inputs"]
    return finished[~(seen < seen.max())]


def without_choices(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that were measured or counted: a table without those of the axes."""
    choices = tuple(f"{part}." for part in PARTS)
    return table[[column for column in table if not column.startswith(choices)]]


def observations(trials: pd.DataFrame, space: PruningSpace, objectives: Sequence[str]) -> Observations:
    """Return the measurements at the first rung of the recipes in a trials table that `space` has too.

    Of a trial that was promoted the error at the first rung is known, and its standard error is not.

    Parameters
    ----------
    trials
        As `trials_table` makes it.
    space, objectives
        Of the study that is to know it. Trials that lack an objective are left out.
    """
    ended = trials[trials["state"] == "COMPLETE"].reset_index(drop=True)
    promoted = ended["rung"].to_numpy() > 0 if "rung" in ended else np.zeros(len(ended), dtype=bool)
    columns = {}
    for objective in objectives:
        column = OBJECTIVES[objective]
        values = ended[column].to_numpy(dtype=float) if column in ended else np.full(len(ended), np.nan)
        if objective in ("error", "loss"):
            first = f"{column}_rung0"
            lower = ended[first].to_numpy(dtype=float) if first in ended else np.full(len(ended), np.nan)
            values = np.where(promoted, lower, values)
        columns[objective] = values
    values = np.column_stack([columns[objective] for objective in objectives]).reshape(len(ended), len(objectives))
    rows, known = known_rows(ended, space)
    known &= np.isfinite(values).all(1)
    measured = next((o for o in objectives if f"{o}_se" in ended), None)
    error_se = np.full(len(ended), np.nan)
    if measured is not None:
        error_se = np.where(promoted, np.nan, ended[f"{measured}_se"].to_numpy(dtype=float))
    return Observations(rows[known], values[known], error_se[known], np.zeros(int(known.sum()), dtype=np.intp))


def known_rows(table: pd.DataFrame, space: PruningSpace) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Return a row of the space for each row of a trials table, and which of them are recipes of the space."""
    rows = np.zeros((len(table), len(space.axes)), dtype=np.int16)
    known = np.ones(len(table), dtype=bool)
    labels = {axis.label: axis for axis in space.axes}
    for column in table:
        part = str(column).partition(".")[0]
        if part not in PARTS:
            continue
        values = table[column]
        axis = labels.get(str(column))
        if axis is None:
            # pruned there, and dense in every recipe here
            known &= (values.isna() if part == "weights" else values == 1).to_numpy()
            continue
        place = space.axes.index(axis)
        choices = _choices(axis)
        found = [choices.get(None if pd.isna(value) else value, -1) for value in values]
        rows[:, place] = found
        known &= rows[:, place] >= 0
    if any(axis.label not in table and not axis.can_be_dense for axis in space.axes):
        known[:] = False
    rows[~known] = 0
    return space.canonical(rows), known


def _choices(axis: Axis) -> dict[Any, int]:
    if axis.part == "weights":
        return {None if choice is None else str(choice): i for i, choice in enumerate(axis.choices)}
    return {float(choice): i for i, choice in enumerate(axis.choices)}  # type: ignore[arg-type]
