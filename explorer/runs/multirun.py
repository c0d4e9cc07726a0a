"""Multirun: how far its jobs are and what each of them found, one row a job."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from rich.table import Table

from explorer.runs.config import Config, default_name, swept
from explorer.utils.console import console
from explorer.utils.files import atomic
from spaces import PruningError

__all__ = ["check_launcher", "jobs_view", "plan", "reported"]

_BUDGETS = (0.75, 0.5, 0.35)
_BEST = [f"error_at_{budget}" for budget in _BUDGETS]
_COLUMNS = ["job", "choices", "seed", "state", "trials", "hypervolume", *_BEST, "seconds"]
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


def plan(folder: Path, configs: Sequence[Config], overrides: Sequence[str]) -> None:
    """Write ``jobs.csv`` with the jobs that a multirun is about to make, or to continue, after those that are there.

    Parameters
    ----------
    folder
        The multirun's folder.
    configs, overrides
        Of its jobs, and what they were composed from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = [key.lstrip("+") for key in swept(overrides)]
    with _table(folder) as rows:
        for config in configs:
            name = default_name(config | {"name": None})
            choices = " ".join(f"{key}={_value(config, key)}" for key in keys)
            before = rows.get(name, {"seconds": 0.0})
            rows[name] = before | {"job": name, "choices": choices, "seed": config["seed"], "state": "waiting"}
            rows[name] |= _found(folder / name)


@contextmanager
def reported(folder: Path, config: Config) -> Iterator[None]:
    """Say that a job begins and what came of it, and keep that in ``jobs.csv``."""
    name = default_name(config | {"name": None})
    with _table(folder) as rows:
        rows[name]["state"] = _BEGUN
        line = f"job {list(rows).index(name) + 1} of {len(rows)}: {rows[name]['choices'] or name}"
    console.print(f"[bold]{line}[/bold]", soft_wrap=True)
    begin, before, failed = time.monotonic(), _changed(folder / name), {}
    try:
        yield
    except Exception as error:
        failed = {"state": f"failed: {' '.join(str(error).split())}"}
        raise
    finally:
        with _table(folder) as rows:
            row = rows[name]
            row |= {"state": "interrupted"} | _found(folder / name) | failed
            if failed or _changed(folder / name) != before:
                # an answer from files costs nothing
                row["seconds"] = round(float(row["seconds"]) + time.monotonic() - begin, 1)
            done = sum(other["state"] not in ("waiting", _BEGUN) for other in rows.values())
        line = f"{done} of {len(rows)} jobs are done; {row['choices'] or name}: {row['state']}"
        if row.get("trials", "") != "":
            line += f", {row['trials']} trials, hypervolume {float(row['hypervolume']):.4f}"
        console.print(f"{line}, {float(row['seconds']):.0f} s", soft_wrap=True, markup=False)


def jobs_view(folder: Path) -> Table:
    """Return the multirun's jobs as a table to print, errors in percent or as they are measured."""
    table = Table(title="jobs", title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    headers = ["job", "choices", "state", "trials", "hypervolume", *(f"error at {b}" for b in _BUDGETS), "seconds"]
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < 3 else "right")
    with _table(folder) as rows:
        for place, row in enumerate(rows.values(), 1):
            best = [f"{float(row[key]):.4f}" if row.get(key, "") != "" else "" for key in _BEST]
            volume = f"{float(row['hypervolume']):.4f}" if row.get("hypervolume", "") != "" else ""
            cells = [row["choices"], row["state"], row.get("trials", ""), volume, *best, row["seconds"]]
            table.add_row(str(place), *map(str, cells))
    return table


@contextmanager
def _table(folder: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Give the rows of ``jobs.csv`` by job, and write them if they were changed; one process at a time."""
    path = folder / "jobs.csv"
    with FileLock(folder / ".jobs.lock"):
        rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            stored = pd.read_csv(path, dtype=str, keep_default_na=False)
            rows = {row["job"]: row for row in stored.to_dict("records")}
        before = json.dumps(rows)
        yield rows
        if json.dumps(rows) != before:
            with atomic(path) as temporary:
                pd.DataFrame(list(rows.values()), columns=_COLUMNS).to_csv(temporary, index=False)


def _found(folder: Path) -> dict[str, Any]:
    """Return what a job's folder says of it, nothing where it has not ended once."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
        front = pd.read_csv(folder / "frontier.csv")
    except (OSError, ValueError):
        return {}
    inside = [front.loc[front["flops_ratio"] <= budget, "error"] for budget in _BUDGETS]
    best = {key: float(errors.min()) if len(errors) else "" for key, errors in zip(_BEST, inside, strict=True)}
    return {
        "state": "done" if summary["ended"] == "trials" else summary["ended"],
        "trials": summary["trials"],
        "hypervolume": summary["hypervolume"],
        **best,
    }


def _changed(folder: Path) -> float | None:
    path = folder / "summary.json"
    return path.stat().st_mtime if path.exists() else None


def _value(config: Mapping[str, Any], key: str) -> Any:
    """Return what a job has for a swept key: a group's option by its name."""
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
