"""Multirun: how far each of its jobs is and its result, one row a job."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from explorer.analysis.multirun_folder import BUDGETS, MultirunFolder, error_column
from explorer.analysis.run_folder import RunFolder
from explorer.runs.composing import swept
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.report import with_page
from explorer.runs.run import execute
from explorer.utils.console import console
from spaces import PruningError

__all__ = ["check_launcher", "execute_where_it_is", "plan", "reported"]

_LAUNCHERS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
}
_BEGUN = "begun"


def check_launcher(overrides: Sequence[str]) -> None:
    """Refuse a launcher whose package is missing.

    Raises
    ------
    PruningError
        With the command that installs it.
    """
    for override in overrides:
        key, _, name = override.partition("=")
        if key != "hydra/launcher":
            continue
        if name not in ("basic", *_LAUNCHERS):
            raise PruningError(f"hydra/launcher: {name!r}, allowed are basic, {', '.join(_LAUNCHERS)}")
        if name in _LAUNCHERS and not _there(_LAUNCHERS[name]):
            raise PruningError(f"hydra/launcher: {name!r} needs pip install 'pruning-spaces[multirun]'")


def execute_where_it_is(config: RunConfig, *, finish: Callable[[Path], None] | None = None) -> Path:
    """Make a run, or what is left of it, and return its folder: among a multirun's jobs where it was one of them.

    Its page is written last.

    Parameters
    ----------
    config
        Of the run.
    finish
        Called with the folder before the page is written.
    """
    root = _home(config)
    job = nullcontext() if root == RESULTS else reported(MultirunFolder(root), config)
    with with_page(root / config.name):
        with job:
            folder = execute(config, root)
        if finish is not None:
            finish(folder)
    return folder


def _home(config: RunConfig) -> Path:
    """Return the folder that holds a run's folder: that of a multirun of which it was a job, where there is one.

    A job's folder is named as that of the same run alone; where several multiruns have it, the one that ended last
    counts.
    """
    if (RESULTS / config.name).exists():
        return RESULTS
    jobs = [RunFolder(path.parent) for path in RESULTS.glob(f"*/{config.name}/config.yaml")]
    jobs = [job for job in jobs if MultirunFolder(job.path.parent).there]
    if not jobs:
        return RESULTS
    found = max(jobs, key=lambda job: job.written or 0).path.parent
    console.print(f"the same run is a job of {found}", soft_wrap=True)
    return found


def plan(folder: MultirunFolder, configs: Sequence[RunConfig], overrides: Sequence[str]) -> None:
    """Write the table of the jobs that a multirun is about to make, or to continue, after those that are there.

    Parameters
    ----------
    folder
        The multirun's folder.
    configs, overrides
        Of its jobs, and what they were composed from.
    """
    keys = [key.lstrip("+") for key in swept(overrides)]
    with folder.jobs() as rows:
        for config in configs:
            name = config.name
            choices = " ".join(f"{key}={_value(config.given, key)}" for key in keys)
            before = rows.get(name, {"seconds": 0.0})
            rows[name] = before | {"job": name, "choices": choices, "seed": config.plan.seed, "state": "waiting"}
            rows[name] |= _found(folder.job(name))


@contextmanager
def reported(folder: MultirunFolder, config: RunConfig) -> Iterator[None]:
    """Say that a job begins and how it ends, and keep both in the table of jobs."""
    name = config.name
    with folder.jobs() as rows:
        _row(rows, name)["state"] = _BEGUN
        line = f"job {list(rows).index(name) + 1} of {len(rows)}: {rows[name]['choices'] or name}"
    console.print(f"[bold]{line}[/bold]", soft_wrap=True)
    begin, before, failed = time.monotonic(), folder.job(name).written, {}
    try:
        yield
    except Exception as error:
        failed = {"state": f"failed: {' '.join(str(error).split())}"}
        raise
    finally:
        with folder.jobs() as rows:
            row = _row(rows, name)
            row |= {"state": "interrupted"} | _found(folder.job(name)) | failed
            if failed or folder.job(name).written != before:
                # an answer from files costs nothing
                row["seconds"] = round(float(row["seconds"]) + time.monotonic() - begin, 1)
            done = sum(other["state"] not in ("waiting", _BEGUN) for other in rows.values())
        line = f"{done} of {len(rows)} jobs are done; {row['choices'] or name}: {row['state']}"
        if row.get("trials", "") != "":
            line += f", {row['trials']} trials, hypervolume {float(row['hypervolume']):.4f}"
        console.print(f"{line}, {float(row['seconds']):.0f} s", soft_wrap=True, markup=False)


def _row(rows: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """Return a job's row, a new one where the table was damaged."""
    return rows.setdefault(name, {"job": name, "choices": "", "seed": "", "state": "waiting", "seconds": 0.0})


def _found(folder: RunFolder) -> dict[str, Any]:
    """Return a job's state, trials, hypervolume and least errors, nothing where it has not ended once."""
    summary, front = folder.summary(), folder.frontier()
    if summary is None or front is None:
        return {}
    inside = {error_column(budget): front.loc[front["flops_ratio"] <= budget, "error"] for budget in BUDGETS}
    best = {key: float(errors.min()) if len(errors) else "" for key, errors in inside.items()}
    return {
        "state": "done" if summary["ended"] == "trials" else summary["ended"],
        "trials": summary["trials"],
        "hypervolume": summary["hypervolume"],
        **best,
    }


def _value(config: Mapping[str, Any], key: str) -> Any:
    """Return a job's value of a swept key: a group's option by its name."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if key == "storage.url":
        # Optuna, which takes half a second to import, comes with it
        from explorer.search.storage import redacted

        return redacted(str(value))
    return value["name"] if isinstance(value, Mapping) and "name" in value else value


def _there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
