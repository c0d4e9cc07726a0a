"""Payload: what the page's script needs of a group of runs, as values that JSON has."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from explorer.analysis.looks import looks_of
from explorer.analysis.report.style import SYMBOLS, on_screen
from explorer.analysis.studies import StudyResult, recipe_text, widths
from spaces import COSTS, Pattern

__all__ = ["group_payload", "plain_number"]

# columns of every trial that the page shows, costs aside
_COLUMNS = ("trial", "rung", "error", "error_se", "loss", "seconds", "rho")
# what is measured of frontier points at the end
_MEASURED = (
    "latency_ms",
    "latency_ms_q1",
    "latency_ms_q3",
    "latency_batch_ms",
    "latency_batch_ms_q1",
    "latency_batch_ms_q3",
    "latency_decode_ms",
    "latency_decode_ms_q1",
    "latency_decode_ms_q3",
)
# name, unit and factor of what can be an axis
_COSTS = {
    "flops": ("multiply-adds", "M", 1e-6),
    "params": ("parameters", "k", 1e-3),
    "bytes": ("size", "KiB", 1 / 1024),
    "memory": ("weights, keys and values", "KiB", 1 / 1024),
    "latency_ms": ("latency of one input", "ms", 1.0),
    "latency_batch_ms": ("latency of a batch", "ms", 1.0),
    "latency_decode_ms": ("latency of a token more", "ms", 1.0),
}
# from these amounts on in larger units
_LARGE = {
    "flops": (2e9, ("multiply-adds", "G", 1e-9)),
    "params": (2e6, ("parameters", "M", 1e-6)),
    "bytes": (2**22, ("size", "MiB", 2**-20)),
    "memory": (2**22, ("weights, keys and values", "MiB", 2**-20)),
}


def group_payload(title: str, results: Sequence[StudyResult], series: Sequence[str]) -> dict[str, Any]:
    """Return what is known of the points of one group: its series, runs, costs and every trial.

    Parameters
    ----------
    title
        What the runs have in common.
    results
        Runs whose errors compare.
    series
        For each the series that it belongs to.
    """
    names = list(dict.fromkeys(series))
    looks = looks_of(names)
    trials = [_trials(result) for result in results]
    points = pd.concat([table.assign(run=run) for run, table in enumerate(trials)], ignore_index=True)
    error = results[0].error
    first = results[0]
    return {
        "title": title,
        "error": {"label": error.label, "scale": error.scale, "trivial": first.scale.trivial("error")},
        "costs": _costs(results, points),
        "series": [
            {"name": name, "colour": on_screen(looks[name].colour), "marker": SYMBOLS[looks[name].marker]}
            for name in names
        ],
        "runs": [_run(result, names.index(name)) for result, name in zip(results, series, strict=True)],
        "points": {name: plain_column(points[name]) for name in points},
        "baselines": _baselines(results),
    }


def _run(result: StudyResult, series: int) -> dict[str, Any]:
    """Return what the page says of a run, and the layers of its recipes."""
    layers = [
        {"name": layer.name, "dense": result.network.tensor[layer.weight].dims[0].length}
        for layer in result.network.layers
    ]
    folder = str(result.folder)
    return {
        "name": result.name,
        "folder": folder,
        "series": series,
        "seed": result.seed,
        "dense": {key: plain_number(value) for key, value in result.dense.items()} | _dense_latency(result.front),
        "layers": layers,
        "export": f"explore export {shlex.quote(folder)} --trial ",
        **_recipes(result),
    }


def _recipes(result: StudyResult) -> dict[str, Any]:
    """Return for every trial its recipe, the outputs kept of every layer and the patterns, as far as they are known."""
    space, table = result.space, result.trials
    rows, known = result.rows(table)
    if space is None:
        return {"recipes": [None] * len(table), "kept": [], "patterns": {}}
    kept = widths(space, rows)
    patterns = {}
    for place, axis in enumerate(space.axes):
        # of tied weights each has a pattern of its own
        for member in axis.addressed if axis.part == "weights" else ():
            names = [f"{one.kind} {one.ratio:.3g}" if isinstance(one, Pattern) else "" for one in member.choices]
            patterns[member.name] = {"names": names, "chosen": rows[:, place].tolist()}
    recipes = [recipe_text(space.recipe(row)) if fits else None for row, fits in zip(rows, known, strict=True)]
    return {"recipes": recipes, "kept": kept.tolist(), "patterns": patterns}


def _trials(result: StudyResult) -> pd.DataFrame:
    """Return the trials with the latencies of the frontier beside them."""
    table = result.trials
    columns = {name: table[name] for name in _COLUMNS if name in table}
    for cost in (cost for cost in COSTS if cost in table):
        columns |= {cost: table[cost], f"{cost}_ratio": table[f"{cost}_ratio"]}
    columns |= {name: table[name].astype(str) for name in ("state", "source", "granularity")}
    columns["reason"] = table["reason"].astype(object).where(table["reason"].notna(), "").astype(str)
    # of a lower rung: errors that do not compare
    columns["top"] = table["trial"].isin(result.finished["trial"])
    columns["front"] = table["trial"].isin(result.front["trial"])
    columns["row"] = pd.Series(np.arange(len(table)), index=table.index)
    # where latency was an objective or a limit every trial has one
    columns |= {name: table[name] for name in _MEASURED if name in table}
    measured = [name for name in _MEASURED if name in result.front and name not in columns]
    return pd.DataFrame(columns).merge(result.front[["trial", *measured]], on="trial", how="left")


def _costs(results: Sequence[StudyResult], points: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the costs that can be an axis: key, label, name, unit, scale, and the dense network's."""
    found = []
    for key, named in _COSTS.items():
        if key not in points or not points[key].notna().any():
            continue
        if key in _LARGE and float(points[key].max()) > _LARGE[key][0]:
            named = _LARGE[key][1]
        name, unit, scale = named
        dense = [value for one in results if (value := {**one.dense, **_dense_latency(one.front)}.get(key)) is not None]
        most = plain_number(max(dense)) if dense else None
        found.append(
            {"key": key, "label": f"{name} ({unit})", "name": name, "unit": unit, "scale": scale, "dense": most}
        )
    return found


def _dense_latency(front: pd.DataFrame) -> dict[str, float]:
    """Return the dense network's latencies, medians of those measured beside the points."""
    found = {}
    for key in ("latency", "latency_batch"):
        if (column := f"{key}_dense_ms") in front and front[column].notna().any():
            found[f"{key}_ms"] = float(front[column].median())
    return found


def _baselines(results: Sequence[StudyResult]) -> list[dict[str, Any]]:
    """Return the baselines that were evaluated well."""
    rows = []
    for run, result in enumerate(results):
        table = result.folder.baselines()
        if table is None or "error" not in table:
            continue
        for _, row in table[table["state"] == "COMPLETE"].iterrows():
            costs = {key: plain_number(row[key]) for key in _COSTS if key in row}
            ratios = {f"{key}_ratio": plain_number(row[f"{key}_ratio"]) for key in costs if f"{key}_ratio" in row}
            rows.append(
                {
                    "run": run,
                    "name": f"{row['allocation']} allocation ({row['family']}), {row['target']} {row['asked']}",
                    "error": plain_number(row["error"]),
                    "error_se": plain_number(row.get("error_se")),
                    **costs,
                    **ratios,
                }
            )
    return rows


def plain_column(column: pd.Series) -> list[Any]:
    """Return a column as JSON has it: six digits, nothing for NaN."""
    if pd.api.types.is_bool_dtype(column) or pd.api.types.is_integer_dtype(column):
        return column.tolist()
    if pd.api.types.is_numeric_dtype(column):
        return [plain_number(value) for value in column.tolist()]
    return [str(value) for value in column]


def plain_number(value: Any) -> float | None:
    """Return a number with six digits, None for what is not finite or no number."""
    if not isinstance(value, int | float | np.number) or not math.isfinite(value):
        return None
    return int(value) if isinstance(value, int | np.integer) else float(f"{value:.6g}")
