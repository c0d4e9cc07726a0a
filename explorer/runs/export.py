"""Export of a run: one of its sub-networks as files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import best_within
from explorer.analysis.tables import without_choices
from explorer.analysis.views import export_line
from explorer.evaluation.training import Checkpoints
from explorer.export.files import save
from explorer.runs.config import RunConfig
from explorer.runs.setup import Setup
from explorer.search.jobs import Job
from explorer.search.metrics import Metric
from explorer.utils.conf import GROUPS, defaults, options_of
from explorer.utils.console import console
from spaces import PruningError, Recipe, costs_of

__all__ = ["export_run"]


def export_run(
    folder: RunFolder,
    budget: Mapping[str, Any],
    out: Path | None = None,
    *,
    recipe_file: Path | None = None,
    allow: Sequence[str] = (),
) -> Path:
    """Export the sub-network of least validation error within a budget of a run, and return its folder.

    A point that was retrained at the end of the run (``final.points``) is exported with the best of these weights, any
    other with those it was measured with.

    Parameters
    ----------
    folder
        A run's folder.
    budget
        Limits on ``flops``, ``params`` or ``bytes`` as in the configuration, on ``latency_ms`` or ``latency`` of one
        input as the run measured them, and on the ``error``: with it the cheapest sub-network is taken.
    out
        Where to; by default ``export/`` in the run's folder, named by the trial or the file.
    recipe_file
        A recipe to export instead, such as a baseline's: ``recipes/baseline-global-flops-0.5.yaml``.
    allow
        Modules whose functions the run's configuration may name, besides this project's and those of torchvision, timm
        and transformers: a folder that somebody else made runs none of its code.

    Raises
    ------
    PruningError
        If the folder is no finished run, no frontier point is within the budget, or the recipe is none of the run's
        network.
    """
    config, summary, front, network = folder.config(), folder.summary(), folder.frontier(), folder.network()
    if config is None or summary is None or front is None or network is None:
        raise PruningError(
            f"folder: {str(folder)!r} holds no run to export from ({', '.join(folder.damaged())} not there or "
            "damaged; the run's command makes it again)"
        )
    given = {key: value for key, value in config.items() if key not in ("identity", "facts")}
    _check_targets(folder, given, allow)
    shown = Metric("error", **summary["error"])
    row = best_within(front, summary["dense"], budget, error=shown) if recipe_file is None else None
    path = recipe_file if row is None else folder.recipe_file(folder.point(row["trial"]))
    assert path is not None
    try:
        recipe = Recipe.load(path).canonical(network)
    except (OSError, UnicodeDecodeError) as error:
        raise PruningError(f"recipe: {str(path)!r} can't be read ({error})") from None
    try:
        run = RunConfig.of(given)
    except PruningError as error:
        raise PruningError(
            f"folder: the configuration of {str(folder)!r} can't be used here any more ({error})"
        ) from None
    setup = Setup(run)
    if setup.data.identity != config["facts"]["data_identity"]:
        raise PruningError(f"data: it is not what the run in {str(folder)!r} was made with")
    problem = setup.problem(folder.checkpoints)
    if problem.space.network.identity != network.identity:
        raise PruningError(f"model: it is not what the run in {str(folder)!r} was made with")
    last = len(problem.evaluator.rungs) - 1
    rung = last if row is None else int(row.get("rung", last))
    module, masks = problem.evaluator.masked(recipe, rung)
    # a file of another run may have the same name
    final = _retrained(folder, path.stem, module) if folder.has_recipe(path) else {}
    test = problem.meter.task.evaluate(module, list(setup.batches("test")))
    if row is None:
        metrics = {**problem.evaluator(Job(-1, recipe, rung, limited=False)), **costs_of(network, recipe)}
    else:
        metrics = without_choices(row.to_frame().T).iloc[0].dropna().to_dict()
    if final:
        metrics |= problem.meter.measured(module) | final
    metrics |= {"test_error": test.error} | ({} if math.isnan(test.error_se) else {"test_error_se": test.error_se})
    metrics |= problem.meter.task.viewed(test, "test_")
    target = out or folder.export(path.stem)
    save(
        module,
        recipe,
        network,
        target,
        masks=masks,
        factory=run.model.factory.path,
        arguments=setup.arguments,
        example=setup.example(setup.device),
        facts={"mean": list(setup.mean), "std": list(setup.std), "metrics": metrics},
    )
    console.print(export_line(metrics, summary["dense"], shown), soft_wrap=True, highlight=False)
    return target


def _check_targets(folder: RunFolder, given: Mapping[str, Any], allow: Sequence[str]) -> None:
    """Refuse a configuration that names functions that are neither those of conf/ nor allowed."""
    for group, section in given.items():
        target = section.get("_target_") if isinstance(section, Mapping) else None
        if target is None or any(str(target) == path or str(target).startswith(f"{path}.") for path in allow):
            continue
        known = (
            [defaults(f"{group}/{option}").get("_target_") for option in options_of(group)] if group in GROUPS else []
        )
        if target not in known or target == "???":
            raise PruningError(
                f"folder: the configuration of {str(folder)!r} names {str(target)!r} ({group}._target_), which would "
                f"be imported and run; if you trust it, say --allow {str(target).rpartition('.')[0] or target}"
            )


def _retrained(folder: RunFolder, point: str, module: nn.Module) -> dict[str, Any]:
    """Fill a frontier point's module with its retrained weights, where there are some, and return their errors."""
    table = folder.final()
    rows = pd.DataFrame() if table is None else table[(table["point"] == point) & table["weights"].notna()]
    if not len(rows):
        return {}
    row = rows.iloc[0]
    if Checkpoints(folder.retrained).weights(Path(row["weights"]).stem, module) is None:
        path = folder.retrained / row["weights"]
        raise PruningError(f"folder: the retrained weights {str(path)!r} can't be read")
    known = {"final_trainings": "n", "final_error": "error", "final_error_sd": "error_sd"}
    known |= {"final_test_error": "test_error", "final_test_error_sd": "test_error_sd"}
    return {"epochs": int(row["epochs"])} | {name: float(row[key]) for name, key in known.items() if pd.notna(row[key])}
