"""Retraining: recipes trained over several seeds, and measured on what chose nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from explorer.data import Batch
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.training import within_memory
from explorer.search.jobs import Job, attempt
from explorer.utils.files import atomic
from spaces import PruningError, Recipe, costs_of, dense_costs

__all__ = ["DENSE", "retrain"]

DENSE = "dense"
"""What the dense network is called among the points."""


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
