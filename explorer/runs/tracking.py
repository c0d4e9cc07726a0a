"""Runs in trackers: what a run's folder holds, logged to MLflow beside it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from explorer.analysis.run_folder import RunFolder
from explorer.utils.console import console
from spaces import PruningError, first_line, unknown

if TYPE_CHECKING:
    from explorer.analysis.studies.result import StudyResult

__all__ = ["check_tracker", "track"]

log = logging.getLogger("explorer")

_EXPERIMENT, _TAG, _VOLUME = "pruning-spaces", "explorer.run", "hypervolume"
_FILES = ("config.yaml", "frontier.csv", "trials.csv", "summary.json", "sensitivity.csv", "baselines.csv", "final.csv")
_COLUMNS = ("error", "flops_ratio", "params_ratio", "bytes_ratio")
# what MLflow takes at once
_PARAMETERS, _METRICS = 100, 1000


def check_tracker(name: Any) -> str | None:
    """Return the name of a tracker that can be used here, None for none.

    Raises
    ------
    PruningError
        If it is unknown, or its package is not installed.
    """
    if name is None:
        return None
    if name != "mlflow":
        raise unknown("tracking", name, ["null", "mlflow"])
    if importlib.util.find_spec("mlflow") is None:
        raise PruningError("tracking: 'mlflow' needs pip install \"pruning-spaces[mlflow]\"")
    return name


def track(folder: RunFolder, tracker: str | None) -> None:
    """Log a run's configuration, trials, outcome and files; where the tracker can't be reached that is a warning.

    A run of this library is one of MLflow's. Logged again, as after a resumption, it gets the trials
    that are new (their numbers are the steps of their metrics) and the files as they are then.

    Parameters
    ----------
    folder
        Of a run; nothing is logged where it has no outcome.
    tracker
        As `check_tracker` returns it.
    """
    if tracker is None or folder.summary() is None:
        return
    # these load what a finished run is answered without
    from explorer.analysis.studies.result import read_study

    mlflow = importlib.import_module("mlflow")
    try:
        where = _log(mlflow, read_study(folder))
    # a server that is away, a database of another version: the folder has everything
    except (mlflow.exceptions.MlflowException, OSError) as error:
        log.warning("tracking: mlflow could not log the run (%s)", error)
        console.print(f"[bold]warning[/bold]: tracking: mlflow could not log the run ({first_line(error)})")
        return
    console.print(f"mlflow: {where}", soft_wrap=True)


def _log(mlflow: Any, study: StudyResult) -> str:
    """Log a study, and return where it went."""
    client, make = mlflow.MlflowClient(), mlflow.entities
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or _EXPERIMENT
    found = client.get_experiment_by_name(experiment)
    number = client.create_experiment(experiment) if found is None else found.experiment_id
    text = json.dumps([str(study.folder.path.resolve()), study.config["identity"]], sort_keys=True, default=str)
    tag = {_TAG: hashlib.sha256(text.encode()).hexdigest()[:16]}
    earlier = client.search_runs([number], filter_string=f"tags.`{_TAG}` = '{tag[_TAG]}'", max_results=1)
    run = earlier[0] if earlier else client.create_run(number, run_name=study.name, tags=tag)
    name = run.info.run_id
    given = {key: value for key, value in study.config.items() if key not in ("identity", "facts")}
    parameters = [make.Param(key, str(value)) for key, value in _flat(given) if key not in run.data.params]
    steps = {metric.step for metric in client.get_metric_history(name, _VOLUME)}
    time = int(1000 * (study.folder.written or 0))
    dense = {f"dense_{key}": value for key, value in study.dense.items()}
    metrics = [make.Metric(key, value, time, 0) for key, value in dense.items() if key not in run.data.metrics]
    metrics += [make.Metric(key, value, time, step) for step, key, value in _metrics(study) if step not in steps]
    for begin in range(0, len(parameters), _PARAMETERS):
        client.log_batch(name, params=parameters[begin : begin + _PARAMETERS])
    for begin in range(0, len(metrics), _METRICS):
        client.log_batch(name, metrics=metrics[begin : begin + _METRICS])
    for path in [study.folder.path / file for file in _FILES]:
        if path.exists():
            client.log_artifact(name, str(path))
    for path in study.folder.plots:
        client.log_artifact(name, str(path), "plots")
    client.set_terminated(name, "KILLED" if study.summary["ended"] == "interrupted" else "FINISHED")
    return f"{study.name} of experiment {experiment} at {mlflow.get_tracking_uri()}"


def _metrics(study: StudyResult) -> Iterator[tuple[int, str, float]]:
    """Yield step, name and value of what the trials measured, and of the hypervolume after each."""
    from explorer.analysis.studies.convergence import hypervolume_curve

    for row in study.trials[study.trials["state"] == "COMPLETE"].to_dict("records"):
        for column in _COLUMNS:
            value = float(row.get(column, math.nan))
            if not math.isnan(value):
                yield int(row["trial"]), column, value
    curve = hypervolume_curve(study.trials, study.scale)["hypervolume"]
    for trial, volume in zip(study.trials["trial"], curve, strict=True):
        yield int(trial), _VOLUME, float(volume)


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
