"""The outcome of a run: its tables, recipes, plots and summary, written and shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.views import baselines_view, final_line, final_view, frontier_view
from explorer.search.metrics import Metric
from explorer.utils.console import console
from explorer.utils.runtime_names import RUNTIMES
from spaces import COSTS

if TYPE_CHECKING:
    from explorer.analysis.plots import MaskPanel
    from explorer.analysis.tables import Scale
    from explorer.study import Study

# torch and what needs it are imported inside: a finished run is shown without them

__all__ = ["notes_of", "seen_validation", "show_outcome", "write_outcome", "write_pareto", "write_sensitivity"]

# standard errors by which two errors surely differ
_SURE = 4


def write_outcome(
    folder: RunFolder,
    study: Study,
    front: pd.DataFrame,
    dense: Mapping[str, float],
    *,
    ended: str,
    title: str,
    doubts: Sequence[str],
    runtime: str | None = None,
    drawn: bool = True,
) -> None:
    """Write the files of a run, each at once.

    Parameters
    ----------
    folder
        The run's folder.
    study
        The exploration.
    front
        The study's frontier, with latencies where they were measured.
    dense
        The dense network's metrics and costs.
    ended
        Why it ended, see `explorer.search.search.Search.run`.
    title
        Of the plots.
    doubts
        Sentences on what makes the numbers doubtful, for the summary, the screen and the plots' captions.
    runtime
        What the frontier's latencies were measured in; None where they were not.
    drawn
        Whether plots are among the files: they take a small run as long as evaluating a few recipes does.
    """
    from explorer.search.rungs import agreement

    trials, scale = study.trials, study.problem.scale
    doubts = [*doubts, *seen_validation(dense, scale.error)]
    folder.write_trials(trials)
    folder.write_frontier(front)
    _write_recipes(folder, study, front)
    if drawn:
        _write_plots(folder, study, front, title, doubts)
        write_sensitivity(folder, study)
    summary = {
        "trials": len(trials),
        "points": len(front),
        "ended": ended,
        "hypervolume": study.hypervolume,
        # one recipe alone is no ladder
        "hypervolume_ladder": _ladder(trials, scale) if study.problem.space.size > 1 else None,
        "failed": int((trials["state"] == "FAIL").sum()),
        "error": {"label": scale.error.label, "scale": scale.error.scale},
        "dense": {name: value for name, value in dense.items() if not math.isnan(value)},
        "warnings": doubts,
        "runtime": runtime,
        "tau": {rungs: vars(found) for rungs, found in agreement(study.records).items()},
    }
    # last, because its presence says that the run ended
    folder.write_summary(summary)


def seen_validation(dense: Mapping[str, float], error: Metric) -> list[str]:
    """Return a sentence where the dense network is so much better on validation than on test that it has seen it.

    Parameters
    ----------
    dense
        Its ``error`` and ``test_error``, with ``_se`` their standard errors; where one is missing nothing is said.
    error
        How errors are shown.
    """
    here, there = dense["error"], dense.get("test_error")
    noise = math.hypot(dense.get("error_se", math.nan), dense.get("test_error_se", math.nan))
    # NaN, where a task has no standard error, is not below
    if there is None or not here < there - _SURE * noise:
        return []
    return [
        f"the dense network's error is {error.text(here)} on validation and {error.text(there)} on test: it has seen "
        "the validation inputs, and errors on them are too low"
    ]


def _ladder(trials: pd.DataFrame, scale: Scale) -> float | None:
    """Return the hypervolume of the uniform ratios; None where they were not all measured at the same rung."""
    ladder = trials[trials["source"] == "ladder"]
    return None if (ladder["rung"] != trials["rung"].max()).any() else scale.hypervolume(ladder)


def _write_recipes(folder: RunFolder, study: Study, front: pd.DataFrame) -> None:
    for _, row in front.iterrows():
        recipe = study.problem.space.recipe(study.records[int(row["trial"])].row)
        cost = f"{int(row['flops']):,} multiply-adds ({row['flops_ratio']:.4f} of dense)"
        folder.write_recipe(folder.point(row["trial"]), recipe, f"error {row['error']:.4f}, {cost}")
    folder.drop_points([folder.point(trial) for trial in front["trial"]])


def notes_of(folder: RunFolder, study: Study) -> dict[int, str]:
    """Return for the trials on the frontier, by Optuna's numbers, what a dashboard shows of each in Markdown."""
    error, notes = study.problem.scale.error, {}
    for _, row in study.frontier.iterrows():
        record, trial = study.records[int(row["trial"])], int(row["trial"])
        recipe = study.problem.space.recipe(record.row).to_yaml()
        notes[record.number] = (
            f"On the frontier of {len(study.records)} trials, trial {trial} in its tables: {error.label} "
            f"{error.text(row['error'])} at {row['flops_ratio']:.3f} of the multiply-adds.\n\n"
            f"```yaml\n{recipe}```\n\n`explore export {folder} --trial {trial} --out DIR`\n"
        )
    return notes


def _write_plots(folder: RunFolder, study: Study, front: pd.DataFrame, title: str, doubts: Sequence[str]) -> None:
    from explorer.analysis.plots import comparison_figure, mask_figure, save

    write_pareto(folder, study, title=title, doubts=doubts)
    problem = study.problem
    if "latency_batch_ratio" in front:
        figure = comparison_figure(
            front,
            problem.dense["error"],
            error=problem.scale.error,
            title=f"{title}: the frontier",
            trivial=problem.scale.trivial("error"),
            doubts=doubts,
        )
        save(figure, folder.plot("theory-and-machine"))
        # masks are made with the measurements, at the end
        if panels := _mask_panels(study, front):
            save(mask_figure(panels, title=title), folder.plot("masks"))


def write_pareto(folder: RunFolder, study: Study, *, title: str, doubts: Sequence[str]) -> None:
    """Draw the Pareto plots of a run's folder, with the baselines that are there."""
    from explorer.analysis.plots import pareto_figure, save

    problem, trials, baselines = study.problem, study.trials, folder.baselines()
    costs = [cost for cost in COSTS if cost in problem.scale.objectives] or ["flops"]
    if "latency_ms" in trials:
        costs.append("latency_ms")
    for cost in costs:
        figure = pareto_figure(
            trials,
            problem.dense,
            problem.scale,
            x=cost,
            title=title,
            baselines=baselines,
            bounds=study.bounds,
            doubts=doubts,
        )
        save(figure, folder.plot(f"pareto-{cost}"))


def write_sensitivity(folder: RunFolder, study: Study) -> None:
    """Write the table of how much each choice alone changes predictions, and draw it, where that was measured."""
    # a function of what the run is: once written it stays
    if not study.problem.has_features or folder.sensitivity() is not None:
        return
    from explorer.analysis.plots import save, sensitivity_figure

    title = f"{study.problem.space.network.name}: change by each choice alone"
    table = study.sensitivity
    save(sensitivity_figure(table, title=title), folder.plot("sensitivity"))
    folder.write_sensitivity(table)


def _mask_panels(study: Study, front: pd.DataFrame) -> list[MaskPanel]:
    """Return a mask of every granularity on the frontier: of the largest layer that has it, at the lowest ratio."""
    from explorer.analysis.plots import MaskPanel
    from spaces import Gemm

    space, pruner = study.problem.space, study.problem.pruner
    best: dict[str, tuple[tuple[int, float], int, str]] = {}
    for trial in front["trial"].astype(int):
        for layer, pattern in space.recipe(study.records[trial].row).weights:
            size = Gemm.of(space.network, space.network.layer[layer]).dense.entries
            rank = (size, -pattern.ratio)
            if pattern.granularity not in best or rank > best[pattern.granularity][0]:
                best[pattern.granularity] = (rank, trial, layer)
    panels = []
    for _, trial, layer in best.values():
        pattern, mask = pruner.masks(space.recipe(study.records[trial].row))[layer]
        kernel = Gemm.of(space.network, space.network.layer[layer]).kernel
        base = None if mask.base is None else mask.base.cpu().numpy()
        panels.append(MaskPanel.of(mask.keep.cpu().numpy(), pattern, kernel, base=base, layer=layer))
    return panels


def show_outcome(folder: RunFolder, *, drawn: bool = False) -> None:
    """Print the tables of a run, its hypervolume, why it ended, its plots, and last how good what was asked for is.

    Of a population, whose recipes were `drawn` without looking at errors, there is no frontier to show.
    """
    front, summary = folder.frontier(), folder.summary()
    if front is None or summary is None:
        return
    error = Metric("error", **summary["error"])
    if len(front) and not drawn:
        console.print(frontier_view(front, summary["dense"], error, RUNTIMES[summary.get("runtime") or "torch"][0]))
    if (baselines := folder.baselines()) is not None:
        console.print(baselines_view(baselines, error))
    if (final := folder.final()) is not None:
        console.print(final_view(final, error))
    for rungs, found in summary["tau"].items():
        tau, recipes = found["tau"], found["recipes"]
        console.print(f"rungs {rungs}: Kendall's tau of the errors of {recipes} recipes {tau:.2f}")
    test = summary["dense"].get("test_error")
    name = error.label.replace("validation", "test")
    dense = f", dense {name}: {error.text(test)}" if test is not None else ""
    failed = f", {summary['failed']} failed" if summary["failed"] else ""
    volume, uniform = summary["hypervolume"], summary["hypervolume_ladder"]
    beside = f" ({volume / uniform:.2f} times that of the uniform ratios)" if uniform else ""
    reached = "" if drawn else f", hypervolume {volume:.4f}{beside}"
    console.print(f"{summary['trials']} {'recipes' if drawn else 'trials'}{failed}{reached}{dense}")
    again = ", the same command continues" if summary["ended"] in ("interrupted", "timeout") else ""
    why = {"stuck": ": no further recipe inside the limits was found", "exhausted": ": every recipe was evaluated"}
    console.print(f"ended: {summary['ended']}{why.get(summary['ended'], '')}{again}", highlight=False)
    for path in folder.plots:
        console.print(f"plot: {path}", soft_wrap=True)
    for doubt in summary["warnings"]:
        console.print(f"[bold]warning[/bold]: {doubt}", soft_wrap=True)
    if final is not None and (line := final_line(final, error)) is not None:
        console.print(line, soft_wrap=True, highlight=False)
