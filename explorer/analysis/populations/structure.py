"""Structural statistics: what recipes look like, as numbers that can be correlated with their errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from explorer.analysis.populations.population import Population

__all__ = ["layer_ratios", "profile_table", "stages_of", "structure_table"]

_PARTS = ("channels.", "weights.")


def layer_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Return the ratio kept of every channel unit and weight of every recipe, in the order of the table's columns.

    What a dropped block holds has no ratio: NaN. A weight without a pattern is kept whole.
    """
    out = {}
    for column in table.columns:
        if str(column).startswith("channels."):
            out[column] = table[column].to_numpy(dtype=float)
        elif str(column).startswith("weights."):
            # patterns are written as kind and ratio
            text = table[column].astype("string").str.rsplit(" ", n=1).str[-1]
            out[column] = pd.to_numeric(text, errors="coerce").fillna(1.0).to_numpy(dtype=float)
    for column in table.columns:
        if str(column).startswith("blocks."):
            inside = f"{str(column).removeprefix('blocks.')}."
            dropped = table[column].to_numpy(dtype=float) == 0
            for name in out:
                if name.partition(".")[2].startswith(inside):
                    out[name] = np.where(dropped, np.nan, out[name])
    return pd.DataFrame(out, index=table.index)


def stages_of(columns: pd.Index) -> dict[str, str]:
    """Return the stage of every column of `layer_ratios`, told from names: ``layer1`` of ``channels.layer1.0.conv1``.

    Nothing where names tell no stages: all layers are in one, or each in its own.
    """
    stages = {str(column): str(column).partition(".")[2].partition(".")[0] for column in columns}
    count = len(set(stages.values()))
    return stages if 1 < count < len(stages) else {}


def structure_table(population: Population, stages: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return the structural statistics of every recipe, one column each.

    The FLOPs-to-parameter ratio, ``flops``, ``params``; ``mean_ratio`` (of all layers), ``slope`` (mean ratio of the
    last third of the layers minus that of the first), ``spread`` (standard deviation of a recipe's ratios),
    ``blocks_kept``; ``stage.NAME``, the mean ratio of a stage; and the ratio of every layer.

    Parameters
    ----------
    population
        The recipes.
    stages
        The stage of columns of `layer_ratios`; by default told from names, see `stages_of`.
    """
    table = population.table
    ratios = layer_ratios(table)
    out = {name: table[name].to_numpy(dtype=float) for name in (population.ratio, "flops", "params")}
    if ratios.shape[1] >= 3:
        third = ratios.shape[1] // 3
        out["mean_ratio"] = ratios.mean(axis=1).to_numpy()
        out["slope"] = (ratios.iloc[:, -third:].mean(axis=1) - ratios.iloc[:, :third].mean(axis=1)).to_numpy()
        out["spread"] = ratios.std(axis=1).to_numpy()
    blocks = [column for column in table.columns if str(column).startswith("blocks.")]
    if blocks:
        out["blocks_kept"] = table[blocks].sum(axis=1).to_numpy(dtype=float)
    members: dict[str, list[str]] = {}
    for column, stage in (stages_of(ratios.columns) if stages is None else stages).items():
        members.setdefault(stage, []).append(column)
    for stage, columns in members.items():
        out[f"stage.{stage}"] = ratios[columns].mean(axis=1).to_numpy()
    return pd.DataFrame(out | {str(name): ratios[name].to_numpy() for name in ratios})


def profile_table(population: Population, winners: np.ndarray) -> pd.DataFrame:
    """Return how much is kept layer by layer: of the population and of its winners.

    Parameters
    ----------
    population
        The recipes.
    winners
        Places of the winners in the population's table, see `winners_of`.

    Returns
    -------
    pandas.DataFrame
        One row a layer and group: ``layer``, ``place``, ``group`` (``population`` or ``winners``), ``median``,
        ``low`` and ``high`` (quartiles) of the ratio kept.
    """
    ratios = layer_ratios(population.table)
    frames = []
    for group, part in (("population", ratios), ("winners", ratios.iloc[winners])):
        quantiles = part.quantile([0.25, 0.5, 0.75])
        frames.append(
            pd.DataFrame(
                {
                    "layer": [str(name).partition(".")[2] for name in ratios],
                    "place": range(ratios.shape[1]),
                    "group": group,
                    "low": quantiles.loc[0.25].to_numpy(),
                    "median": quantiles.loc[0.5].to_numpy(),
                    "high": quantiles.loc[0.75].to_numpy(),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)
