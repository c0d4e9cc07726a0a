"""The end of a study: frontier points retrained over several seeds, and measured on what chose nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.table import Table

from explorer.search.frontier import hypervolume
from explorer.search.jobs import Job, attempt
from explorer.search.metrics import Metric
from explorer.utils.console import progress
from explorer.utils.files import atomic
from spaces import PruningError, Recipe, costs_of, dense_costs

if TYPE_CHECKING:
    from explorer.data import Batch
    from explorer.evaluation.finetuning import Finetuned
    from explorer.study import Study

# torch and what needs it are imported inside: a finished run is shown without them

__all__ = ["final_view", "missing_final", "read_final", "retrain", "retrain_frontier", "telling"]

DENSE = "dense"


def telling(values: npt.ArrayLike, points: int) -> list[int]:
    """Return the places of so many points of a frontier that together keep most of its hypervolume, in order.

    They are taken one after the other, each time the one that adds most; the reference is the worst of the points, in
    the last objective 1.

    Parameters
    ----------
    values
        (n, 2), errors and costs relative to dense, minimised; if there are no more than `points`, all are taken.
    points
        How many; 0 for none.
    """
    left = np.asarray(values, dtype=float).reshape(-1, 2)
    if len(left) <= points:
        return list(range(len(left)))
    reference = [left[:, 0].max(), 1.0]
    chosen: list[int] = []
    while len(chosen) < points:
        rest = [place for place in range(len(left)) if place not in chosen]
        chosen.append(max(rest, key=lambda place: hypervolume(left[[*chosen, place]], reference)))
    return sorted(chosen)


def read_final(folder: Path) -> pd.DataFrame | None:
    """Return the table of a run's retrained points; None where there is none."""
    path = folder / "final.csv"
    return pd.read_csv(path) if path.exists() else None


def missing_final(folder: Path, config: Mapping[str, Any]) -> bool:
    """Tell whether a configuration asks for retrained points that the run's table does not have."""
    asked = config["final"]
    table = read_final(folder)
    if not asked["points"] or table is None:
        return bool(asked["points"])
    trainings = sum(column.removeprefix("test_error_").isdigit() for column in table)
    whole = trainings == asked["seeds"] and (table["epochs"] == asked["epochs"]).all() and table["reason"].isna().all()
    front = pd.read_csv(folder / "frontier.csv")
    return not whole or set(table["point"][1:]) != {_called(front, place) for place in _chosen(front, asked["points"])}


def retrain_frontier(
    folder: Path, config: Mapping[str, Any], study: Study, finetuned: Finetuned, test: Sequence[Batch]
) -> None:
    """Retrain what the configuration asks for of a study's frontier; write ``final.csv`` and the weights in ``final``.

    Raises
    ------
    PruningError
        If the folder can't be written.
    """
    asked, front = config["final"], study.frontier
    recipes = {
        _called(front, place): study.problem.space.recipe(study.records[front["trial"][place]].row)
        for place in _chosen(front, asked["points"])
    }
    with progress("final training", (len(recipes) + 1) * asked["seeds"]) as show:
        table = retrain(
            finetuned,
            recipes,
            test,
            seeds=asked["seeds"],
            epochs=asked["epochs"],
            folder=folder / "final",
            on_training=show,
        )
    with atomic(folder / "final.csv") as temporary:
        table.to_csv(temporary, index=False)


def final_view(table: pd.DataFrame, error: Metric) -> Table:
    """Return the retrained points as a table to print: means over trainings with their standard deviations."""
    view = Table(title="retrained", title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    label = error.label.removeprefix("validation ")
    view.add_column("point")
    for header in ("trainings", f"test {label}", "± s.d.", "validation", "± s.d.", "FLOPs M", "params k"):
        view.add_column(header, justify="right")
    for _, row in table.iterrows():
        if not row["n"]:
            view.add_row(row["point"], "0", f"failed: {row['reason']}")
            continue
        errors = [error.text(row[key]) for key in ("test_error", "test_error_sd", "error", "error_sd")]
        costs = [f"{row['flops'] / 1e6:.3f}", f"{row['params'] / 1e3:.1f}"]
        view.add_row(row["point"], str(row["n"]), *errors, *costs)
    return view


def _chosen(front: pd.DataFrame, points: int) -> list[int]:
    return telling(front[["error", "flops_ratio"]].to_numpy(), points)


def _called(front: pd.DataFrame, place: int) -> str:
    """Return what a frontier point is called: as the file of its recipe."""
    return f"trial-{int(front['trial'][place]):04d}"


def retrain(
    finetuned: Finetuned,
    recipes: Mapping[str, Recipe],
    test: Sequence[Batch],
    *,
    seeds: int,
    epochs: int,
    folder: Path,
    on_training: Callable[[int, str], None] | None = None,
) -> pd.DataFrame:
    """Return how recipes, and the dense network trained equally, do on test: a row each, mean over several trainings.

    A training that is done is read from its file, an interrupted one continues. Of each recipe the weights of the
    training with the least validation error are kept; test chooses nothing.

    Parameters
    ----------
    finetuned
        What trains sub-networks; its rungs, folder and seed give way to those here.
    recipes
        By what a point is called.
    test
        Batches on the device of the dense network.
    seeds
        Trainings of each recipe, with the seeds that follow the study's: its own chose the frontier by its luck.
    epochs
        Of each training.
    folder
        For checkpoints, results and weights.
    on_training
        Called after each training with how many are done and what was trained.

    Raises
    ------
    PruningError
        If the folder can't be written; a training that fails has its reason in its row.

    Returns
    -------
    DataFrame
        ``point``; costs absolute and as ``_ratio`` to dense; ``n``, trainings that ended well; ``test_error`` and
        ``error`` (validation), their means, with ``_sd`` their standard deviations over trainings, NaN for one;
        ``train_loss``, ``epochs``; ``test_error_1`` ... of each training; ``weights``, the file in `folder` of the
        training with the least validation error; ``reason`` of one that failed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PruningError(f"final: {str(folder)!r} can't be written ({error.strerror})") from None
    network, done, rows = finetuned.meter.network, 0, []
    dense = dense_costs(network)
    for point, recipe in {DENSE: Recipe.of({}), **recipes}.items():
        trainings = [
            replace(finetuned, rungs=(epochs,), folder=folder, seed=finetuned.seed + 1 + number)
            for number in range(seeds)
        ]
        results = []
        for number, training in enumerate(trainings):
            results.append(_measured(training, recipe, test))
            done += 1
            if on_training is not None:
                on_training(done, f"{point}, training {number + 1} of {seeds}")
        costs = costs_of(network, recipe)
        row: dict[str, Any] = {"point": point}
        for name, cost in costs.items():
            row |= {name: cost, f"{name}_ratio": cost / dense[name]}
        rows.append(row | _summary(results) | {"epochs": epochs} | _best(trainings, recipe, results))
    return pd.DataFrame(rows)


def _measured(training: Finetuned, recipe: Recipe, test: Sequence[Batch]) -> dict[str, Any]:
    """Return what one training reaches on validation and test, or why it failed."""
    kept = training.kept(recipe)
    assert kept is not None
    path = kept.with_suffix(".json")
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        # not there, or torn where the power failed
        pass

    def measure(job: Job) -> dict[str, float]:
        from explorer.evaluation.training import within_memory

        return within_memory(lambda: _metrics(training, job.recipe, test))

    result = attempt(measure, Job(0, recipe))
    if result.reason is not None:
        # not written: it is tried again when the command is
        return {"reason": result.reason}
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(dict(result.metrics)) + "\n")
    return dict(result.metrics)


def _metrics(training: Finetuned, recipe: Recipe, test: Sequence[Batch]) -> dict[str, float]:
    module, history = training.trained(recipe)
    meter = training.meter
    error, tested = meter.task.evaluate(module, meter.validation).error, meter.task.evaluate(module, test)
    return {"error": error, "test_error": tested.error, "test_loss": tested.loss, "train_loss": history[-1].loss}


def _summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    good = [result for result in results if "reason" not in result]
    row: dict[str, Any] = {"n": len(good)}
    for name in ("test_error", "error", "test_loss", "train_loss"):
        values = pd.Series([result[name] for result in good], dtype=float)
        row[name] = values.mean()
        if name.endswith("error"):
            row[f"{name}_sd"] = values.std()
    for number, result in enumerate(results, 1):
        row[f"test_error_{number}"] = result.get("test_error", np.nan)
    return row


def _best(trainings: Sequence[Finetuned], recipe: Recipe, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return which weights stay, and let go of the others; say why a training failed, if one did."""
    good = [number for number, result in enumerate(results) if "reason" not in result]
    best = min(good, key=lambda number: results[number]["error"], default=None)
    for number in good:
        if number != best and (path := trainings[number].kept(recipe)) is not None:
            path.unlink(missing_ok=True)
    kept = None if best is None else trainings[best].kept(recipe)
    if best is not None and kept is not None and not kept.exists():
        # of more trainings it was not the best, and was let go of
        trainings[best].build(recipe)
    reasons = [result["reason"] for result in results if "reason" in result]
    return {"weights": None if kept is None else kept.name, "reason": reasons[0] if reasons else None}
