"""What the runs of a group show together: their table, hypervolumes, and what seeds attain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from bokeh.embed import json_item

from explorer.analysis.looks import looks_of
from explorer.analysis.multirun_folder import BUDGETS
from explorer.analysis.report.curves import attainment_drawing, hypervolume_drawing
from explorer.analysis.studies import StudyResult, attainment, hypervolume_bands, hypervolume_curve

__all__ = ["RETRAINED_COLUMNS", "RUN_COLUMNS", "retrained_rows", "run_rows", "shared_figures"]

RUN_COLUMNS = (
    "series", "seed", "trials", "failed", "hypervolume", "over uniform ratios",
    *(f"error at {budget:.0%} FLOPs" for budget in BUDGETS), "dense error", "on test", "ended",
)  # fmt: skip
"""Headings of the table of runs."""


RETRAINED_COLUMNS = (
    "run", "point", "trainings", "test error", "± s.d.", "validation", "± s.d.", "of FLOPs", "of parameters", "",
)  # fmt: skip
"""Headings of the table of retrained points."""


def run_rows(results: Sequence[StudyResult], series: Sequence[str]) -> list[list[str]]:
    """Return a row of text for each run, under `RUN_COLUMNS`."""
    rows = []
    for result, name in zip(results, series, strict=True):
        summary, front, error = result.summary, result.front, result.error
        volume, uniform = summary["hypervolume"], summary["hypervolume_ladder"]
        best = [front.loc[front["flops_ratio"] <= budget, "error"].min() for budget in BUDGETS]
        test = summary["dense"].get("test_error")
        rows.append(
            [
                name,
                str(result.seed),
                str(summary["trials"]),
                str(summary["failed"]),
                f"{volume:.4f}",
                f"{volume / uniform:.2f}" if uniform else "",
                *(error.text(float(value)) for value in best),
                error.text(float(summary["dense"]["error"])),
                "" if test is None else error.text(float(test)),
                str(summary["ended"]),
            ]
        )
    return rows


def retrained_rows(results: Sequence[StudyResult], series: Sequence[str]) -> list[list[str]]:
    """Return a row of text for each point that was retrained at the end, under `RETRAINED_COLUMNS`."""
    rows = []
    for result, name in zip(results, series, strict=True):
        table = result.folder.final()
        for _, row in (pd.DataFrame() if table is None else table).iterrows():
            error, failed = result.error, not row["n"]
            keys = ("test_error", "test_error_sd", "error", "error_sd")
            errors = [error.text(float(row.get(key, float("nan")))) for key in keys]
            costs = [f"{row[key]:.3f}" if pd.notna(row.get(key)) else "" for key in ("flops_ratio", "params_ratio")]
            where = f"{name}, seed {result.seed}" if len(results) > 1 else name
            reason = f"failed: {row['reason']}" if failed else ""
            rows.append([where, str(row["point"]), str(row["n"]), *errors, *costs, reason])
    return rows


def shared_figures(results: Sequence[StudyResult], series: Sequence[str]) -> list[dict[str, Any]]:
    """Return the figures of hypervolume and attainment: ``key``, ``title``, ``text`` and ``item``."""
    names, looks = list(dict.fromkeys(series)), looks_of(series)
    members = {name: [one for one, its in zip(results, series, strict=True) if its == name] for name in names}
    curves = {name: [hypervolume_curve(one.trials, one.scale) for one in runs] for name, runs in members.items()}
    bands = hypervolume_bands(curves)
    found = []
    if len(bands):
        seeds = bands["seeds"].max() > 1
        costs = {"flops": "relative FLOPs", "params": "relative parameters", "bytes": "relative size"}
        costs |= {"memory": "relative memory"}
        label = " × ".join(costs.get(name, name) for name in results[0].scale.objectives)
        text = "How much lies between the frontier and a network that knows nothing, after so many evaluated recipes"
        text += ": the median over seeds, in the band from the least to the greatest." if seeds else "."
        found.append(_figure("hypervolume", "Hypervolume over trials", text, hypervolume_drawing(bands, looks, label)))
    stairs = {name: table for name, runs in members.items() if len(table := attainment(runs))}
    if stairs:
        text = (
            "The line is what half of the seeds reach; the band goes from what any of them reaches to what all of them "
            "do (empirical attainment function)."
        )
        drawn = attainment_drawing(stairs, looks, "multiply-adds, relative to dense", results[0].error)
        found.append(_figure("attainment", "Attainment over seeds", text, drawn))
    return found


def _figure(key: str, title: str, text: str, drawn: Any) -> dict[str, Any]:
    return {"key": key, "title": title, "text": text, "item": json_item(drawn)}
