"""What a run leaves in its folder: tables, recipes, plots and a summary."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from explorer.runs.baselines import baselines_view, read_baselines
from explorer.runs.config import model_name
from explorer.runs.final import final_view, read_final
from explorer.search.metrics import Metric
from explorer.utils.console import console, frontier_view
from explorer.utils.files import atomic

if TYPE_CHECKING:
    from explorer.analysis.plots import MaskPanel
    from explorer.analysis.tables import Scale
    from explorer.study import Study

# torch and what needs it are imported inside: a finished run is shown without them

__all__ = ["show_outcome", "write_outcome", "write_pareto"]


def write_outcome(
    folder: Path, config: Mapping[str, Any], study: Study, front: pd.DataFrame, dense: Mapping[str, float], ended: str
) -> None:
    """Write the files of a run, each at once.

    Parameters
    ----------
    folder
        The run's folder.
    config
        Its configuration.
    study
        What was explored.
    front
        The study's frontier, with latencies where they were measured.
    dense
        The dense network's metrics and costs.
    ended
        Why it ended, see `explorer.search.search.Search.run`.
    """
    from explorer.search.rungs import agreement

    trials, scale = study.trials, study.problem.scale
    for name, table in (("trials", trials), ("frontier", front)):
        with atomic(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False)
    with atomic(folder / "trials.parquet") as temporary:
        trials.to_parquet(temporary, index=False)
    _write_recipes(folder / "recipes", study, front)
    _write_plots(folder / "plots", config, study, front)
    summary = {
        "trials": len(trials),
        "ended": ended,
        "hypervolume": study.hypervolume,
        "hypervolume_ladder": _ladder(trials, scale),
        "failed": int((trials["state"] == "FAIL").sum()),
        "error": {"label": scale.error.label, "scale": scale.error.scale},
        "dense": dict(dense),
        "tau": agreement(study.records),
    }
    with atomic(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1) + "\n")


def _ladder(trials: pd.DataFrame, scale: Scale) -> float | None:
    """Return the hypervolume of the uniform ratios; None where they were not all measured at the same rung."""
    ladder = trials[trials["source"] == "ladder"]
    return None if (ladder["rung"] != trials["rung"].max()).any() else scale.hypervolume(ladder)


def _write_recipes(folder: Path, study: Study, front: pd.DataFrame) -> None:
    folder.mkdir(exist_ok=True)
    names = set()
    for _, row in front.iterrows():
        recipe = study.problem.space.recipe(study.records[int(row["trial"])].row)
        path = folder / f"trial-{int(row['trial']):04d}.yaml"
        names.add(path.name)
        remark = (
            f"# error {row['error']:.4f}, {int(row['flops']):,} multiply-adds ({row['flops_ratio']:.4f} of dense)\n"
        )
        with atomic(path) as temporary:
            temporary.write_text(remark + recipe.to_yaml())
    for path in folder.glob("trial-*.yaml"):
        if path.name not in names:
            path.unlink()


def _write_plots(folder: Path, config: Mapping[str, Any], study: Study, front: pd.DataFrame) -> None:
    from explorer.analysis.plots import comparison_figure, mask_figure, save

    folder.mkdir(exist_ok=True)
    write_pareto(folder.parent, config, study)
    problem, title = study.problem, _title(config, study)
    if "latency_batch_ratio" in front:
        figure = comparison_figure(
            front, problem.dense["error"], error=problem.scale.error, title=f"{title}: the frontier"
        )
        save(figure, folder / "theory-and-machine")
        # masks are made with the measurements, at the end
        if panels := _mask_panels(study, front):
            save(mask_figure(panels, title=title), folder / "masks")


def write_pareto(folder: Path, config: Mapping[str, Any], study: Study) -> None:
    """Draw the Pareto plots of a run's folder, with the baselines that are there."""
    from explorer.analysis.plots import pareto_figure, save

    problem, trials, baselines = study.problem, study.trials, read_baselines(folder)
    costs = [cost for cost in ("flops", "params", "bytes") if cost in config["objectives"]] or ["flops"]
    if "latency_ms" in trials:
        costs.append("latency_ms")
    for cost in costs:
        figure = pareto_figure(
            trials, problem.dense, problem.scale, x=cost, title=_title(config, study), baselines=baselines
        )
        save(figure, folder / "plots" / f"pareto-{cost}")


def _title(config: Mapping[str, Any], study: Study) -> str:
    return f"{model_name(config)} on {config['data']['name']}, {len(study.records)} trials"


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
        panels.append(MaskPanel.of(mask, pattern, kernel, layer=layer))
    return panels


def show_outcome(folder: Path) -> None:
    """Print what the folder of a run holds."""
    front, summary = pd.read_csv(folder / "frontier.csv"), json.loads((folder / "summary.json").read_text())
    error = Metric("error", **summary["error"])
    if len(front):
        console.print(frontier_view(front, summary["dense"], error))
    if (baselines := read_baselines(folder)) is not None:
        console.print(baselines_view(baselines, error))
    if (final := read_final(folder)) is not None:
        console.print(final_view(final, error))
    for rungs, tau in summary["tau"].items():
        console.print(f"rungs {rungs}: Kendall's tau of their errors {tau:.2f}")
    test = summary["dense"].get("test_error")
    name = error.label.replace("validation", "test")
    dense = f", dense {name}: {error.text(test)}" if test is not None else ""
    failed = f", {summary['failed']} failed" if summary["failed"] else ""
    volume, uniform = summary["hypervolume"], summary["hypervolume_ladder"]
    beside = f" ({volume / uniform:.2f} times that of the uniform ratios)" if uniform else ""
    console.print(f"{summary['trials']} trials{failed}, hypervolume {volume:.4f}{beside}{dense}")
    again = ", the same command continues" if summary["ended"] in ("interrupted", "timeout") else ""
    why = {"stuck": ": no further recipe inside the limits was found", "exhausted": ": every recipe was evaluated"}
    console.print(f"ended: {summary['ended']}{why.get(summary['ended'], '')}{again}", highlight=False)
    for path in sorted((folder / "plots").glob("*.png")):
        console.print(f"plot: {path}", soft_wrap=True)
