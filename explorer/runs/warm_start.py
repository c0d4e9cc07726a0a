"""Earlier: what other runs measured of the same network, for a sampler to begin with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from explorer.runs.config import differences
from explorer.search.metrics import OBJECTIVES
from explorer.search.samplers import Observations
from spaces import Axis, PruningError, PruningSpace

__all__ = ["earlier_runs", "observations"]

# what an error depends on besides the recipe; budgets, seeds, samplers and spaces may differ
_SAME = ("model", "data", "task", "criterion", "evaluator", "finetuning", "supernet", "training")


def earlier_runs(
    folders: Sequence[Path],
    space: PruningSpace,
    objectives: Sequence[str],
    *,
    identity: Mapping[str, Any],
    network: str,
    data: str,
) -> Observations:
    """Return what the runs in `folders` measured at their first rung of recipes that `space` has too.

    Parameters
    ----------
    folders
        Of runs.
    space, objectives
        Of the study that is to know it.
    identity, network, data
        Of its configuration, its network and its data: what of them an error depends on has to be the same there.

    Raises
    ------
    PruningError
        If a folder holds no run, or one of another network, data, criterion or evaluator.
    """
    found = [Observations.none(len(space.axes), len(objectives))]
    for folder in folders:
        try:
            config = yaml.safe_load((folder / "config.yaml").read_text())
            trials = pd.read_parquet(folder / "trials.parquet")
            there = {key: config["identity"].get(key) for key in _SAME}
            there |= {"facts": config["facts"]["network"], "images": config["facts"]["data_identity"]}
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            raise PruningError(f"sampler.warm_start: {str(folder)!r} holds no run to begin with ({reason})") from None
        here = {key: identity.get(key) for key in _SAME} | {"facts": network, "images": data}
        # the configuration that is stored went through JSON
        if lines := differences(there, json.loads(json.dumps(here, default=str))):
            raise PruningError(f"sampler.warm_start: {str(folder)!r} measured something else ({lines[0]})")
        found.append(observations(trials, space, objectives))
    return Observations.joined(found)


def observations(trials: pd.DataFrame, space: PruningSpace, objectives: Sequence[str]) -> Observations:
    """Return what a table of trials says of the recipes that `space` has, as of the first rung.

    Of a trial that was promoted the error at the first rung is known, and nothing of its standard error.

    Parameters
    ----------
    trials
        As `explorer.analysis.tables.trials_table` makes it.
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
    rows, known = _rows(ended, space)
    known &= np.isfinite(values).all(1)
    measured = next((o for o in objectives if f"{o}_se" in ended), None)
    error_se = np.full(len(ended), np.nan)
    if measured is not None:
        error_se = np.where(promoted, np.nan, ended[f"{measured}_se"].to_numpy(dtype=float))
    return Observations(rows[known], values[known], error_se[known], np.zeros(int(known.sum()), dtype=np.intp))


def _rows(table: pd.DataFrame, space: PruningSpace) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
    """Return a row for each entry of a table, and which of them are recipes of the space."""
    rows = np.zeros((len(table), len(space.axes)), dtype=np.int16)
    known = np.ones(len(table), dtype=bool)
    labels = {axis.label: axis for axis in space.axes}
    for column in table:
        part = str(column).partition(".")[0]
        if part not in ("channels", "weights", "blocks"):
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
