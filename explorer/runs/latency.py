"""Latency of a run's frontier, measured once, at the end."""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

import pandas as pd

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.selection import ends_first
from explorer.evaluation.settings import LatencySettings
from explorer.utils.console import console, progress
from explorer.utils.hardware import load
from spaces import PruningError

if TYPE_CHECKING:
    from explorer.study import Study

__all__ = ["other_runtime", "with_latency"]

log = logging.getLogger("explorer")


def with_latency(study: Study, front: pd.DataFrame, settings: LatencySettings) -> pd.DataFrame:
    """Return the frontier with the latencies of its points, its ends first, as far as the seconds for them go."""
    seconds, problem = settings.seconds, study.problem
    if seconds == 0 or not len(front):
        return front
    busy, cores, begin = load() or 0.0, os.cpu_count() or 1, time.monotonic()
    measured, order = list[dict[str, float]](), ends_first(len(front))
    with progress("latency of the frontier", len(front)) as show:
        for trial in front["trial"].iloc[order]:
            if seconds is not None and time.monotonic() - begin > seconds:
                break
            try:
                measured.append(problem.timings(problem.space.recipe(study.records[trial].row)))
            except PruningError as error:
                # the dense network ran in this runtime
                console.print(f"latency: trial {trial} can't be measured ({error})", soft_wrap=True)
                break
            show(len(measured), "")
    log.info("latency: %d of %d points measured at a load of %.1f on %d cores", len(measured), len(front), busy, cores)
    if len(measured) < len(front):
        console.print(
            f"latency: {len(measured)} of {len(front)} points, spread over the frontier; for more: "
            f"latency.seconds={2 * (seconds or 0):g}"
        )
    if busy > cores:
        console.print(
            f"latency: measured at a load of {busy:.1f} on {cores} cores; times are longer than on a quiet machine"
        )
    columns = pd.DataFrame(measured, index=front.index[order[: len(measured)]])
    # where latency was an objective or a budget, what it was then stays
    return pd.concat([front, columns.drop(columns=front.columns, errors="ignore")], axis=1)


def other_runtime(folder: RunFolder, settings: LatencySettings) -> bool:
    """Tell whether the latencies of a finished run's frontier are those of another runtime than is asked for."""
    summary = folder.summary()
    there = None if summary is None else summary.get("runtime")
    return settings.seconds != 0 and there is not None and there != settings.runtime
