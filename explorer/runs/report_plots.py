"""The figures of the report for papers: the same data drawn by matplotlib, as files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from explorer.analysis.plots import (
    attainment_figure,
    comparison_figure,
    hypervolume_figure,
    importance_figure,
    ratios_figure,
    rungs_figure,
    save,
    sensitivity_figure,
)
from explorer.analysis.studies import (
    StudyResult,
    attainment,
    axis_importance,
    frontier_ratios,
    groups_of,
    hypervolume_bands,
    hypervolume_curve,
    rung_pairs,
    series_of,
)

__all__ = ["write_plots"]


def write_plots(results: Sequence[StudyResult], folder: Path) -> list[Path]:
    """Write the figures of runs as png, svg and pdf, and return the paths of the png.

    Parameters
    ----------
    results
        The runs.
    folder
        Gets ``frontiers``, ``hypervolume`` and ``attainment``, and for every series ``importance-SERIES``,
        ``ratios-SERIES``, ``sensitivity-SERIES`` and ``rungs-SERIES``, as far as there is something to show; names of
        several models, data sets or tasks begin with theirs.
    """
    groups = groups_of(results)
    paths = []
    for title, members in groups.items():
        stem = f"{_word(title)}-" if len(groups) > 1 else ""
        for name, figure in _figures(title, members):
            paths.append(save(figure, folder / f"{stem}{name}")[0])
    return paths


def _figures(title: str, results: Sequence[StudyResult]) -> Iterator[tuple[str, Figure]]:
    series, error = series_of(results), results[0].error
    members = {name: [one for one, its in zip(results, series, strict=True) if its == name] for name in series}
    fronts = [one.front.assign(job=one.name, series=name) for one, name in zip(results, series, strict=True)]
    if points := [front for front in fronts if len(front)]:
        table, trivial = pd.concat(points, ignore_index=True), results[0].scale.trivial("error")
        dense = float(results[0].dense["error"])
        yield "frontiers", comparison_figure(table, dense, error=error, title=title, trivial=trivial)
    curves = {name: [hypervolume_curve(one.trials, one.scale) for one in runs] for name, runs in members.items()}
    yield "hypervolume", hypervolume_figure(hypervolume_bands(curves), title=title)
    if stairs := {name: found for name, runs in members.items() if len(found := attainment(runs))}:
        yield "attainment", attainment_figure(stairs, error=error, title=title)
    for name, runs in members.items():
        yield from _series_figures(name, runs)


def _series_figures(name: str, runs: Sequence[StudyResult]) -> Iterator[tuple[str, Figure]]:
    """Yield what one series shows; ratios and rungs of its run of greatest hypervolume, as the page."""
    best = max(runs, key=lambda one: float(one.summary["hypervolume"]))
    space = best.space
    found = None if space is None else axis_importance(space, [one.finished for one in runs])
    if found is not None:
        yield f"importance-{_word(name)}", importance_figure(found.table, title=name)
    if space is not None and len(ratios := frontier_ratios(best.front, space)):
        yield f"ratios-{_word(name)}", ratios_figure(ratios, title=name)
    if (table := best.folder.sensitivity()) is not None:
        yield f"sensitivity-{_word(name)}", sensitivity_figure(table, title=name)
    if len(pairs := rung_pairs(best.trials)):
        yield f"rungs-{_word(name)}", rungs_figure(pairs, error=best.error, title=name)


def _word(name: str) -> str:
    """Return a name for files."""
    return re.sub(r"[^A-Za-z0-9_=-]+", "-", name).strip("-")
