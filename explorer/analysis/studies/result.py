"""StudyResult: what a run left in its folder, read once and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from explorer.analysis.multirun_folder import MultirunFolder
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.tables import Scale, at_rung, known_rows
from explorer.search.metrics import Metric
from spaces import Network, PruningError, PruningSpace
from spaces.cost import counted

__all__ = ["LeftOut", "StudyResult", "read_results", "read_study"]

_CHOICES = ("model", "data", "task", "space", "criterion", "evaluator", "sampler")
_NUMBERS = ("trial", "rung", "error", "error_se", "flops", "flops_ratio", "params", "params_ratio", "bytes")


@dataclass(frozen=True, eq=False)
class StudyResult:
    """A run as its files tell it.

    Attributes
    ----------
    folder
        Where it lies.
    config, summary
        Its configuration, and how it ended.
    trials, front
        One row an evaluated recipe, and the frontier with its latencies.
    network
        The Network whose recipes were explored.
    """

    folder: RunFolder
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    trials: pd.DataFrame
    front: pd.DataFrame
    network: Network

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def seed(self) -> int:
        """The seed of its sampler and inputs."""
        return int(self.config["seed"])

    @cached_property
    def error(self) -> Metric:
        """How its errors are called and shown."""
        return Metric("error", str(self.summary["error"]["label"]), float(self.summary["error"]["scale"]))

    @cached_property
    def scale(self) -> Scale:
        """Its objectives and the reference of their hypervolume."""
        reference = self.config["facts"]["hypervolume_reference"]
        return Scale(list(reference), reference, self.error)

    @property
    def dense(self) -> Mapping[str, float]:
        """The dense network's metrics and costs."""
        return self.summary["dense"]

    @property
    def is_population(self) -> bool:
        """Whether its recipes were drawn at random, without looking at errors."""
        return "regime" in self.config

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The trials whose errors compare: those that ended well at the highest rung."""
        return at_rung(self.trials)

    @cached_property
    def space(self) -> PruningSpace | None:
        """The explored space; None where its file's grammar is no longer known."""
        try:
            return PruningSpace.from_config(self.network, self.config["identity"]["space"])
        except (PruningError, KeyError, TypeError):
            return None

    def rows(self, table: pd.DataFrame) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.bool_]]:
        """Return the rows of the space for the rows of a trials table, and which of them it knows; none without it."""
        if self.space is None:
            return np.zeros((len(table), 0), dtype=np.int16), np.zeros(len(table), dtype=bool)
        return known_rows(table.reset_index(drop=True), self.space)


@dataclass(frozen=True)
class LeftOut:
    """A folder that could not be read, and why."""

    name: str
    reason: str


def read_study(folder: RunFolder) -> StudyResult:
    """Return a run's result.

    Raises
    ------
    PruningError
        If the folder holds no run, one that has not ended once, damaged files, or those of another version.
    """
    config, summary = folder.config(), folder.summary()
    if config is None and summary is None:
        raise PruningError(f"folder: {str(folder)!r} holds no run (config.yaml is not there or damaged)")
    if config is not None and summary is None:
        raise PruningError(
            f"folder: the run in {str(folder)!r} has not ended once (summary.json is not there or damaged); "
            "its command continues it"
        )
    trials, front, network = folder.trials(), folder.frontier(), folder.network()
    if config is None or summary is None or trials is None or front is None or network is None:
        raise PruningError(
            f"folder: the run in {str(folder)!r} is damaged ({', '.join(folder.damaged())} not there or cut); its "
            "command makes it again"
        )
    found = StudyResult(folder, config, summary, _checked(trials), _checked(front), network)
    try:
        _check(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise PruningError(
            f"folder: the run in {str(folder)!r} was written by another version ({' '.join(reason.split())})"
        ) from None
    return found


def read_results(paths: Sequence[Path]) -> tuple[list[StudyResult], list[LeftOut]]:
    """Return the results of runs' and multiruns' folders, each once, and what of the multiruns could not be read.

    A folder that holds runs and multiruns, such as ``results``, is all of them.

    Raises
    ------
    PruningError
        If a folder is not there, holds no run, or none of a multirun's jobs can be read.
    """
    results: dict[Path, StudyResult] = {}
    left: list[LeftOut] = []
    for path in paths:
        if not path.is_dir():
            raise PruningError(f"folder: {str(path)!r} is no folder that is there")
        if (path / "config.yaml").exists() or (path / "summary.json").exists():
            results.setdefault(path.resolve(), read_study(RunFolder(path)))
            continue
        # of a folder of everything the multiruns in it too
        inner = [folder for sub in sorted(path.iterdir()) if (folder := MultirunFolder(sub)).there]
        jobs = [job for folder in (MultirunFolder(path), *inner) for job in folder.begun()]
        if not jobs:
            raise PruningError(f"folder: {str(path)!r} holds neither a run nor the runs of a multirun")
        missed: list[LeftOut] = []
        for job in jobs:
            try:
                results.setdefault(job.path.resolve(), read_study(job))
            except PruningError as error:
                missed.append(LeftOut(job.name, str(error).removeprefix("folder: ")))
        if len(missed) == len(jobs):
            raise PruningError(f"folder: no run in {str(path)!r} can be read, first {missed[0].reason}")
        left += missed
    return list(results.values()), left


def _checked(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with text for states and reasons; it may come from a stranger."""
    texts = {name: table[name].astype(str) for name in ("state", "source", "granularity") if name in table}
    return table.assign(**texts)


def _check(found: StudyResult) -> None:
    """Read what every figure needs, so that a folder of another version is known at the door."""
    for key in _CHOICES:
        str(found.config[key]["name"])
    if not isinstance(found.config["identity"], Mapping):
        raise ValueError("the identity is no mapping")
    _ = found.seed, found.error, found.scale
    for cost in ("error", *counted(found.network)):
        float(found.dense[cost])
    for table in (found.trials, found.front):
        for name in (*_NUMBERS, *found.scale.columns):
            if not pd.api.types.is_numeric_dtype(table[name]) and len(table):
                raise ValueError(f"the column {name} holds no numbers")
    if not set(found.front["trial"]) <= set(found.trials["trial"]):
        raise ValueError("the frontier has trials that the table has not")
