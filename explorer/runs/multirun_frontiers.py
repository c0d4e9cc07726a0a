"""The frontiers of a multirun's jobs, side by side."""

from __future__ import annotations

from typing import Any

import pandas as pd

from explorer.analysis.multirun_folder import MultirunFolder
from explorer.analysis.naming import model_name
from explorer.search.metrics import Metric
from explorer.utils.console import console

__all__ = ["gather", "gather_frontiers"]

_CHOICES = ("data", "task", "space", "criterion", "evaluator", "sampler")


def gather(folder: MultirunFolder) -> None:
    """Write the frontiers of a multirun's jobs as one table, and a figure of them for every model, data and task.

    Parameters
    ----------
    folder
        The multirun's folder. Gets ``frontiers.csv`` and ``plots/granularities-MODEL-DATA``, of several tasks with
        ``-TASK``.
    """
    jobs, target = folder.ended(), folder.frontiers_file
    written = max((job.written or 0 for job in jobs), default=0)
    if target.exists() and target.stat().st_mtime > written:
        console.print(f"frontiers of {len(jobs)} jobs: {target}", soft_wrap=True)
        return
    # drawing takes a second to import
    from explorer.analysis.plots import comparison_figure, save

    table = gather_frontiers(folder)
    if not len(table):
        return
    folder.write_frontiers(table)
    console.print(f"frontiers of {table['job'].nunique()} jobs: {target}", soft_wrap=True)
    several = len(set(table["task"])) > 1
    for (model, data, task), part in table.groupby(["model", "data", "task"], sort=False):
        error = Metric("error", part["error_label"].iloc[0], part["error_scale"].iloc[0])
        title = f"{model} on {data}: frontiers"
        known = part["error_trivial"].dropna()
        figure = comparison_figure(
            part,
            part["dense_error"].iloc[0],
            error=error,
            title=title,
            trivial=known.iloc[0] if len(known) else None,
            doubts=sorted({doubt for job in folder.ended() if job.name in set(part["job"]) for doubt in job.doubts()}),
        )
        path = save(figure, folder.plot(f"granularities-{model}-{data}{f'-{task}' if several else ''}"))[0]
        console.print(f"plot: {path}", soft_wrap=True)


def gather_frontiers(folder: MultirunFolder) -> pd.DataFrame:
    """Return the frontiers of all jobs that ended, one row a point, with each job's choices and seed.

    ``series`` is what a job differs in from the others of its model, data and task, besides its seed.

    Jobs whose files are damaged are left out: the same command makes them again.
    """
    from explorer.analysis.studies import labels_of
    from explorer.analysis.tables import without_choices

    frames, configs = [], list[dict[str, Any]]()
    for job in folder.ended():
        config, summary, front = job.config(), job.summary(), job.frontier()
        if config is None or summary is None or front is None:
            continue
        named = {"job": job.name, "model": model_name(config)}
        named |= {key: config[key]["name"] for key in _CHOICES}
        shown = {f"error_{key}": value for key, value in summary["error"].items()}
        shown["error_trivial"] = config["facts"].get("hypervolume_reference", {}).get("error", float("nan"))
        points = without_choices(front)
        configs.append(config)
        frames.append(points.assign(**named, seed=config["seed"], dense_error=summary["dense"]["error"], **shown))
    if not frames:
        return pd.DataFrame()
    # jobs of other models, data and tasks are on other figures
    places = [tuple(frame[["model", "data", "task"]].iloc[0]) if len(frame) else () for frame in frames]
    for place in dict.fromkeys(places):
        mine = [i for i, other in enumerate(places) if other == place]
        labels = labels_of([configs[i] for i in mine])
        for i, label in zip(mine, labels, strict=True):
            frames[i] = frames[i].assign(series=label)
    table = pd.concat(frames, ignore_index=True)
    first = ["job", "model", *_CHOICES, "seed", "dense_error"]
    return table[[*first, *(column for column in table if column not in first)]]
