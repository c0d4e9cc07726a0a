"""What the jobs of a multirun found, side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import yaml

from explorer.runs.config import model_name
from explorer.search.metrics import METRICS, Metric
from explorer.utils.console import console
from explorer.utils.files import atomic

__all__ = ["gather", "gather_frontiers"]


def gather(folder: Path) -> None:
    """Write the frontiers of a multirun's jobs as one table, and a figure of them for every model, data and task.

    Parameters
    ----------
    folder
        The multirun's folder. Gets ``frontiers.csv`` and ``plots/granularities-MODEL-DATA``, of several tasks with
        ``-TASK``.
    """
    jobs = [path.stat().st_mtime for path in folder.glob("*/summary.json")]
    target = folder / "frontiers.csv"
    if target.exists() and target.stat().st_mtime > max(jobs, default=0):
        console.print(f"frontiers of {len(jobs)} jobs: {target}", soft_wrap=True)
        return
    # torch comes with them
    from explorer.analysis.plots import comparison_figure, save

    table = gather_frontiers(folder)
    if not len(table):
        return
    with atomic(folder / "frontiers.csv") as temporary:
        table.to_csv(temporary, index=False)
    console.print(f"frontiers of {table['job'].nunique()} jobs: {folder / 'frontiers.csv'}", soft_wrap=True)
    several = len(set(table["task"])) > 1
    for (model, data, task), part in table.groupby(["model", "data", "task"], sort=False):
        (folder / "plots").mkdir(exist_ok=True)
        error = Metric("error", part["error_label"].iloc[0], part["error_scale"].iloc[0])
        figure = comparison_figure(
            part, part["dense_error"].iloc[0], error=error, title=f"{model} on {data}: frontiers"
        )
        path = save(figure, folder / "plots" / f"granularities-{model}-{data}{f'-{task}' if several else ''}")[0]
        console.print(f"plot: {path}", soft_wrap=True)


def gather_frontiers(folder: Path) -> pd.DataFrame:
    """Return the frontiers of all finished jobs, one row a point, with each job's choices and seed.

    Parameters
    ----------
    folder
        The multirun's folder.
    """
    from explorer.analysis.tables import without_choices

    frames = []
    for path in sorted(folder.glob("*/summary.json")):
        config = yaml.safe_load((path.parent / "config.yaml").read_text())
        summary = json.loads(path.read_text())
        # runs of a version without tasks are classifications
        chosen = {"task": {"name": "classification"}, **config}
        named = {"job": path.parent.name, "model": model_name(config)}
        named |= {key: chosen[key]["name"] for key in ("data", "task", "space", "criterion")}
        front = without_choices(pd.read_csv(path.parent / "frontier.csv"))
        label = {"label": METRICS["error"].label, "scale": METRICS["error"].scale}
        shown = {f"error_{key}": value for key, value in summary.get("error", label).items()}
        frames.append(front.assign(**named, seed=config["seed"], dense_error=summary["dense"]["error"], **shown))
    if not frames:
        return pd.DataFrame()
    table = pd.concat(frames, ignore_index=True)
    first = ["job", "model", "data", "task", "space", "criterion", "seed", "dense_error"]
    return table[[*first, *(column for column in table if column not in first)]]
