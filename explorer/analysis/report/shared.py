"""What the runs of a group show together: their table, hypervolumes, and what seeds attain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bokeh.embed import json_item

from explorer.analysis.looks import looks_of
from explorer.analysis.multirun_folder import BUDGETS
from explorer.analysis.report.curves import attainment_drawing, hypervolume_drawing
from explorer.analysis.studies import StudyResult, attainment, hypervolume_bands, hypervolume_curve

__all__ = ["RUN_COLUMNS", "run_rows", "shared_figures"]

RUN_COLUMNS = (
    "series", "seed", "trials", "failed", "hypervolume", "over uniform ratios",
    *(f"error at {budget:.0%} FLOPs" for budget in BUDGETS), "dense error", "on test", "ended",
)  # fmt: skip
"""Headings of the table of runs."""


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
