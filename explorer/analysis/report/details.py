"""What the sub-networks of one run or series are made of: the figures of axes, ratios, sensitivity and rungs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from bokeh.embed import json_item

from explorer.analysis.report.curves import rungs_drawing
from explorer.analysis.report.maps import importance_drawing, ratios_drawing, sensitivity_drawing
from explorer.analysis.studies import (
    StudyResult,
    axis_importance,
    frontier_ratios,
    importance_words,
    rung_pairs,
    rung_words,
)

__all__ = ["series_details"]

_RATIOS = (
    "Every column is a recipe of the frontier, every row an axis of the space: light keeps all, dark little. "
    "What stays light to the left should be kept longest."
)
_SENSITIVITY = (
    "How much a choice alone changes the dense network's predictions (mean square over their variance): dark rows "
    "are layers to leave alone."
)
_RUNGS = "The errors of the recipes that were evaluated at both rungs. "


def series_details(results: Sequence[StudyResult], series: Sequence[str]) -> list[dict[str, Any]]:
    """Return for every series its figures: ``title``, and a list of ``key``, ``title``, ``text`` and ``item`` each.

    What the axes decide is told from all seeds together; the frontier's recipes are those of the run with the greatest
    hypervolume.
    """
    details = []
    for name in dict.fromkeys(series):
        runs = [one for one, its in zip(results, series, strict=True) if its == name]
        best = max(runs, key=lambda one: float(one.summary["hypervolume"]))
        figures = [*_importance(runs), *_ratios(best, len(runs) > 1), *_sensitivity(best), *_rungs(best)]
        if figures:
            details.append({"title": name, "figures": figures})
    return details


def _importance(runs: list[StudyResult]) -> list[dict[str, Any]]:
    space = runs[0].space
    found = None if space is None else axis_importance(space, [one.finished for one in runs])
    if found is None:
        return []
    drawn = importance_drawing(found.table)
    return [_figure("importance", "Which axes matter", importance_words(found), drawn)]


def _ratios(best: StudyResult, several: bool) -> list[dict[str, Any]]:
    table = None if best.space is None else frontier_ratios(best.front, best.space)
    if table is None or not len(table):
        return []
    text = _RATIOS + (f" Of seed {best.seed}, whose hypervolume is greatest." if several else "")
    return [_figure("ratios", "Ratios of the frontier's recipes", text, ratios_drawing(table, best.error))]


def _sensitivity(best: StudyResult) -> list[dict[str, Any]]:
    table = best.folder.sensitivity()
    if table is None:
        return []
    numbers = table.assign(**{name: pd.to_numeric(table[name], errors="coerce") for name in ("ratio", "change")})
    removing = numbers[(numbers["ratio"] < 1) & numbers["change"].notna()]
    return [
        _figure(f"sensitivity-{place}", f"Sensitivity: {name}", _SENSITIVITY, sensitivity_drawing(part))
        for place, (name, part) in enumerate(removing.groupby("granularity", sort=False))
    ]


def _rungs(best: StudyResult) -> list[dict[str, Any]]:
    pairs = rung_pairs(best.trials)
    if not len(pairs):
        return []
    return [
        _figure("rungs", "Rungs", _RUNGS + " ".join(rung_words(best.summary["tau"])), rungs_drawing(pairs, best.error))
    ]


def _figure(key: str, title: str, text: str, drawn: Any) -> dict[str, Any]:
    return {"key": key, "title": title, "text": text, "item": json_item(drawn)}
