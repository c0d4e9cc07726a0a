"""Where evaluations run: in the driver's process, in processes beside it, or on a cluster."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from explorer.search.executors.inline import Inline
from explorer.search.executors.pool import Launcher, Pool
from explorer.search.jobs import Evaluate, Executor
from explorer.utils.checks import checked_number
from spaces import PruningError, unknown

__all__ = ["EXECUTORS", "check_executor", "check_installed", "make_executor", "worker_threads"]

Section = Mapping[str, Any]


def _local(section: Section, folder: Path, device: str) -> Launcher:
    from explorer.search.executors.local import Local

    return Local.of(section["workers"], section["threads"], folder=folder, device=device)


def _ray(section: Section, folder: Path, device: str) -> Launcher:
    from explorer.search.executors.ray import OnRay

    return OnRay(section["address"], section["workers"], cpus=section["cpus"], gpus=section["gpus"])


def _slurm(section: Section, folder: Path, device: str) -> Launcher:
    from explorer.search.executors.slurm import Slurm

    options = {key: value for key, value in section.items() if key not in ("name", "workers")}
    return Slurm(section["workers"], folder=folder, **options)


EXECUTORS: Mapping[str, Callable[[Section, Path, str], Launcher] | None] = {
    "inline": None,
    "local": _local,
    "ray": _ray,
    "slurm": _slurm,
}
"""How the workers of each executor are started, from its section of the configuration, a folder for what they write,
and the device they evaluate on; None where there are none."""

# what each needs besides, which the extra of its name installs
_LIBRARIES = {"ray": "ray", "slurm": "submitit"}

_NUMBERS: Mapping[str, dict[str, Any]] = {
    "workers": {"least": 1, "most": 1024, "optional": True},
    "threads": {"least": 1, "most": 1024, "optional": True},
    "minutes": {"least": 1},
    "cpus": {"least": 0, "whole": False, "above": True},
    "gpus": {"least": 0, "whole": False},
    "memory_gb": {"least": 0, "whole": False, "above": True, "optional": True},
}


def check_executor(section: Section) -> None:
    """Check the values of the configuration's section ``executor``.

    Raises
    ------
    PruningError
        If there is no such executor, or one of its values is out of range.
    """
    name = section["name"]
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    for key, rule in _NUMBERS.items():
        if key in section:
            # what SLURM counts is whole, Ray shares a GPU
            whole = {"whole": True} if name == "slurm" and key in ("cpus", "gpus") else {}
            checked_number(f"executor.{key}", section[key], **(rule | whole))
    if name == "slurm" and section["workers"] is None:
        raise PruningError("executor.workers: None, allowed is a whole number >= 1")
    for key in ("address", "partition", "cluster"):
        if not isinstance(section.get(key), str | None):
            raise PruningError(f"executor.{key}: {section[key]!r}, allowed is a word or null")
    if section.get("cluster") not in (None, "slurm", "local", "debug"):
        raise unknown("executor.cluster", section["cluster"], ["slurm", "local"])
    if not isinstance(section.get("parameters", {}), Mapping):
        raise PruningError(f"executor.parameters: {section['parameters']!r}, allowed is a section of keys")


def check_installed(section: Section) -> None:
    """Check that an executor's library is there, before a folder is made for the run.

    Raises
    ------
    PruningError
        If it is not; the message has the pip command.
    """
    name = section["name"]
    if name in _LIBRARIES and importlib.util.find_spec(_LIBRARIES[name]) is None:
        raise PruningError(f"executor: {name} needs {_LIBRARIES[name]}; pip install 'pruning-spaces[{name}]'")


def worker_threads(section: Section, device: str) -> int | None:
    """Return how many threads each worker of an executor evaluates with; None where the driver itself evaluates."""
    if section["name"] == "local":
        from explorer.search.executors.local import Local

        return Local.of(section["workers"], section["threads"], folder=Path(), device=device).threads
    return max(1, int(section["cpus"])) if "cpus" in section else None


def make_executor(section: Section, evaluate: Evaluate, *, folder: Path, device: str) -> Executor:
    """Return the executor that a configuration names; whoever gets it closes it.

    Parameters
    ----------
    section
        The configuration's section ``executor``, see conf/executor.
    evaluate
        Measures one recipe. Workers get a copy of it, with cloudpickle for what has no import path; tensors in it are
        read from a file that all workers of a machine share the memory of.
    folder
        Where that file and what workers print is written; made if it is not there.
    device
        Where candidates are evaluated, ``cpu`` or ``cuda``.

    Raises
    ------
    PruningError
        If a library is missing, or `evaluate` cannot be pickled.
    """
    check_executor(section)
    launcher = EXECUTORS[section["name"]]
    if launcher is None:
        return Inline(evaluate)
    return Pool(launcher(section, folder, device), evaluate, folder)
