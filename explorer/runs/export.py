"""Export of a run: one of its sub-networks as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import best_within, knee, trial_row
from explorer.analysis.tables import Scale, at_rung, frontier_table, known_rows
from explorer.analysis.views import export_line
from explorer.candidate import Candidate
from explorer.evaluation.training import Checkpoints
from explorer.export.shipping import Formats, check_formats
from explorer.export.target import check_target
from explorer.problem import Problem
from explorer.runs.config import RunConfig
from explorer.runs.setup import Setup
from explorer.search.jobs import Job
from explorer.search.metrics import Metric
from explorer.utils.conf import GROUPS, defaults, options_of
from explorer.utils.console import Told, console, steps
from spaces import PruningError, Recipe, costs_of

__all__ = ["Choice", "export_run"]


@dataclass(frozen=True)
class Choice:
    """Which sub-network of a run is meant: said in one way, by default that of least error on the frontier.

    Parameters
    ----------
    limits
        On ``flops``, ``params``, ``bytes`` or ``memory`` as in the configuration, on ``latency_ms`` or ``latency`` of
        one input as the run measured them, and on the ``error``: with it the cheapest sub-network is taken.
    trial
        The number of a trial that ended well.
    knee
        The frontier's knee, see `explorer.analysis.selection.knee`.
    recipe
        The file of a recipe, such as a baseline's: ``recipes/baseline-global-flops-0.5.yaml``.
    rung
        Of the frontier and of the training; None for the highest, and of a trial for the highest that it ended well.
    """

    limits: Mapping[str, Any] = field(default_factory=dict)
    trial: int | None = None
    knee: bool = False
    recipe: Path | None = None
    rung: int | None = None

    def __post_init__(self) -> None:
        alone = {"recipe": self.recipe is not None, "trial": self.trial is not None, "knee": self.knee}
        ways = [name for name, given in alone.items() if given]
        if ways and (others := [*ways[1:], *self.limits]):
            other = others[0].replace("_", "-")
            raise PruningError(f"{ways[0]}: it is given, and so is --{other}, allowed is one of them")

    def row(self, folder: RunFolder, front: pd.DataFrame, scale: Scale, dense: Mapping[str, float]) -> pd.Series | None:
        """Return the row of a run's tables that is meant; None where it is the recipe of a file.

        Raises
        ------
        PruningError
            If there is none.
        """
        if self.recipe is not None:
            return None
        if self.trial is not None or self.rung is not None:
            trials = folder.trials()
            if trials is None:
                raise PruningError(f"folder: trials.parquet of {str(folder)!r} is not there or damaged")
            highest = int(trials["rung"].max())
            if self.rung is not None and self.rung > highest:
                raise PruningError(f"rung: {self.rung}, allowed are 0 to {highest}")
            if self.trial is not None:
                row = trial_row(trials, self.trial)
                return row if self.rung is None else trial_row(at_rung(trials, self.rung), self.trial)
            if self.rung != highest:
                front = frontier_table(trials, scale, self.rung)
        return (
            knee(front, scale.columns[-1]) if self.knee else best_within(front, dense, self.limits, error=scale.error)
        )


def export_run(
    folder: RunFolder, choice: Choice, out: Path | None = None, *, formats: Formats, allow: Sequence[str] = ()
) -> Path:
    """Export a sub-network of a run, and return its folder.

    A point that was retrained at the end of the run (``final.points``) is exported with the best of these weights, any
    other with those it was measured with.

    Parameters
    ----------
    folder
        A run's folder.
    choice
        Which sub-network.
    out
        Where to; by default ``export/`` in the run's folder, named by the trial or the file.
    formats
        What is written beside the files that `explorer.load` reads.
    allow
        Modules whose functions the run's configuration may name, besides this project's and those of torchvision, timm
        and transformers: a folder that somebody else made runs none of its code.

    Raises
    ------
    PruningError
        If the folder is no finished run, no frontier point is within the limits, the recipe is none of the run's
        network, or the export can't be written.
    """
    check_formats(formats)
    config, summary, front, network = folder.config(), folder.summary(), folder.frontier(), folder.network()
    if config is None or summary is None or front is None or network is None:
        raise PruningError(
            f"folder: {str(folder)!r} holds no run to export from ({', '.join(folder.damaged())} not there or "
            "damaged; the run's command makes it again)"
        )
    given = {key: value for key, value in config.items() if key not in ("identity", "facts")}
    _check_targets(folder, given, allow)
    shown = Metric("error", **summary["error"])
    row = choice.row(folder, front, Scale(config["objectives"], {}, shown), summary["dense"])
    path = choice.recipe if row is None else folder.recipe_file(folder.point(row["trial"]))
    assert path is not None
    target = out or folder.export(path.stem)
    check_target(target)
    # of a trial that is not on the frontier there is no file
    recipe = _read(path).canonical(network) if row is None or path.exists() else None
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
    evaluator = problem.evaluator
    if recipe is None:
        recipe = _recipe_of(row, problem)
    if row is None:
        rung = len(evaluator.rungs) - 1 if choice.rung is None else choice.rung
        metrics = {**evaluator(Job(-1, recipe, rung, limited=False)), **costs_of(network, recipe), "rung": rung}
    else:
        metrics = row.to_dict()
    candidate = Candidate(recipe, metrics, evaluator, summary["dense"], shown, run.model.factory.path, setup.arguments)
    module, final = None, dict[str, Any]()
    # a file of another run may have the same name; of a lower rung what was retrained is another network
    if folder.has_recipe(path) and choice.rung is None:
        module, final = _retrained(folder, path.stem, candidate)
    steps.info("building the sub-network, writing it, and measuring it beside the dense network")
    metrics, notes = replace(candidate, metrics=metrics | final).ship(
        target,
        formats,
        module,
        Told("sub-network on test", list(setup.batches("test"))),
        {"mean": list(setup.mean), "std": list(setup.std)},
    )
    for note in notes:
        console.print(note, soft_wrap=True, highlight=False)
    console.print(export_line(metrics, summary["dense"], shown), soft_wrap=True, highlight=False)
    return target


def _read(path: Path) -> Recipe:
    try:
        return Recipe.load(path)
    except (OSError, UnicodeDecodeError) as error:
        raise PruningError(f"recipe: {str(path)!r} can't be read ({error})") from None


def _recipe_of(row: pd.Series | None, problem: Problem) -> Recipe:
    """Return the recipe of a row of the trials table."""
    assert row is not None
    rows, known = known_rows(pd.DataFrame([row]), problem.space)
    if not known[0]:
        raise PruningError(f"trial: {int(row['trial'])} is no recipe of the run's space")
    return problem.space.recipe(rows[0])


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


def _retrained(folder: RunFolder, point: str, candidate: Candidate) -> tuple[nn.Module | None, dict[str, Any]]:
    """Return a frontier point's module with its retrained weights and their errors; nothing where there are none."""
    table = folder.final()
    rows = pd.DataFrame() if table is None else table[(table["point"] == point) & table["weights"].notna()]
    if not len(rows):
        return None, {}
    row = rows.iloc[0]
    module = candidate.evaluator.masked(candidate.recipe)[0]
    if Checkpoints(folder.retrained).weights(Path(row["weights"]).stem, module) is None:
        path = folder.retrained / row["weights"]
        raise PruningError(f"folder: the retrained weights {str(path)!r} can't be read")
    known = {"final_trainings": "n", "final_error": "error", "final_error_sd": "error_sd"}
    known |= {"final_test_error": "test_error", "final_test_error_sd": "test_error_sd"}
    found = {name: float(row[key]) for name, key in known.items() if pd.notna(row[key])}
    return module, {"epochs": int(row["epochs"])} | found
