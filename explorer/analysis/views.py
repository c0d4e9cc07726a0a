"""Views: the tables of a run and of a multirun as they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from rich.table import Table

from explorer.analysis.multirun_folder import BUDGETS, error_column
from explorer.search.metrics import METRICS, Metric

__all__ = ["FAR_APART", "baselines_view", "export_line", "final_line", "final_view", "frontier_view", "jobs_view"]

# of one input, a batch and a token more, each beside its ratio to the dense network's
_LATENCIES = {
    "latency_ms": "1 input ms",
    "latency_ratio": "ratio",
    "latency_batch_ms": "batch ms",
    "latency_batch_ratio": "ratio",
    "latency_decode_ms": "token ms",
    "latency_decode_ratio": "ratio",
}

# columns of some tasks that people know better than the error
_BESIDE = ("perplexity",)


def frontier_view(front: pd.DataFrame, dense: Mapping[str, float], error: Metric, runtime: str = "torch") -> Table:
    """Return the frontier as a table to print, the dense network last.

    Parameters
    ----------
    front
        A frontier, cheapest first. A latency whose quartiles are far apart is marked ``~``.
    dense
        The dense network's metrics and costs; its latency is the median of those measured beside the points.
    error
        How errors are shown.
    runtime
        What the latencies were measured in.
    """
    latencies = {key: header for key, header in _LATENCIES.items() if key in front}
    shown = [name for name in _BESIDE if name in front]
    title = f"frontier, latency in {runtime}" if latencies and runtime != "torch" else "frontier"
    table = Table(title=title, title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    headers = [
        "trial",
        error.label.removeprefix("validation "),
        "± s.e.",
        *shown,
        "FLOPs M",
        "ratio",
        "params k",
        "ratio",
        "KiB",
        *(["with keys and values KiB"] if "memory" in front else []),
        *latencies.values(),
    ]
    for header in headers:
        table.add_column(header, justify="right")
    # what all points have in common needs no column
    named = len(set(front.get("granularity", ()))) > 1
    if named:
        table.add_column("granularity")
    for _, row in front.iterrows():
        cells = [str(row["trial"]), *_cells(row, error, shown)]
        cells += [_latency(row, key) for key in latencies]
        table.add_row(*cells, *([row["granularity"]] if named else []))
    table.add_section()
    ratios = {f"{cost}_ratio": 1.0 for cost in ("flops", "params")}
    beside = [_dense_latency(front, key) for key in latencies]
    if any(_latency(row, key).startswith("~") for _, row in front.iterrows() for key in latencies):
        table.caption = "~ quartiles far apart: the machine was busy, the number compares with no other"
        table.caption_justify = "left"
    table.add_row("dense", *_cells({**dense, **ratios}, error, shown), *beside, *[""] * named)
    return table


def baselines_view(table: pd.DataFrame, error: Metric) -> Table:
    """Return the baselines as a table to print; a cost is shown as it was asked for."""
    view = Table(title="baselines", title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    for header in ("allocation", "of", "target"):
        view.add_column(header)
    for header in ("asked", "achieved", error.label.removeprefix("validation "), "± s.e.", "FLOPs M", "params k"):
        view.add_column(header, justify="right")
    for _, row in table.iterrows():
        cells = [row["allocation"], row["family"], row["target"], row["asked"]]
        if row["state"] != "COMPLETE":
            view.add_row(*map(str, cells), "failed", str(row["reason"]))
            continue
        errors = [error.text(row[key]) for key in ("error", "error_se")]
        costs = [f"{row['flops'] / 1e6:.3f}", f"{row['params'] / 1e3:.1f}"]
        view.add_row(*map(str, cells), f"{row['achieved']:.5g}", *errors, *costs)
    return view


def final_view(table: pd.DataFrame, error: Metric) -> Table:
    """Return the retrained points as a table to print: means over trainings with their standard deviations."""
    view = Table(title="retrained", title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    label = error.label.removeprefix("validation ")
    view.add_column("point")
    for header in ("trainings", f"test {label}", "± s.d.", "validation", "± s.d.", "FLOPs M", "params k"):
        view.add_column(header, justify="right")
    for _, row in table.iterrows():
        if not row["n"]:
            view.add_row(row["point"], "0", f"failed: {row['reason']}")
            continue
        errors = [error.text(row[key]) for key in ("test_error", "test_error_sd", "error", "error_sd")]
        costs = [f"{row['flops'] / 1e6:.3f}", f"{row['params'] / 1e3:.1f}"]
        view.add_row(row["point"], str(row["n"]), *errors, *costs)
    return view


def jobs_view(rows: Iterable[Mapping[str, Any]], errors: Mapping[str, Metric]) -> Table:
    """Return a multirun's jobs as a table to print.

    Parameters
    ----------
    rows
        Of the table of jobs.
    errors
        How the errors of each job are shown, see `MultirunFolder.errors`.
    """
    table = Table(title="jobs", title_justify="left", header_style="bold", padding=(0, 0, 0, 1))
    labels = {error.label.removeprefix("validation ") for error in errors.values()}
    label = labels.pop() if len(labels) == 1 else "error"
    headers = ["job", "choices", "state", "trials", "hypervolume", *(f"{label} at {b}" for b in BUDGETS), "seconds"]
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i < 3 else "right")
    for place, row in enumerate(rows, 1):
        error = errors.get(row["job"], METRICS["error"])
        best = [error.text(float(row[key])) if row.get(key, "") != "" else "" for key in map(error_column, BUDGETS)]
        volume = f"{float(row['hypervolume']):.4f}" if row.get("hypervolume", "") != "" else ""
        cells = [row["choices"], row["state"], row.get("trials", ""), volume, *best, row["seconds"]]
        table.add_row(str(place), *map(str, cells))
    return table


def final_line(table: pd.DataFrame, error: Metric) -> str | None:
    """Return the test error of the first retrained point beside the dense network's as one line, None without any.

    Parameters
    ----------
    table
        As `explorer.evaluation.retraining.retrain` makes it, the dense network first.
    error
        How errors are shown.
    """
    if len(table) < 2 or not table["n"].iloc[1]:
        return None
    dense, point = table.iloc[0], table.iloc[1]
    name = error.label.replace("validation", "test")
    beside = f" (dense {_with_deviation(dense, error)})" if dense["n"] else ""
    trainings = f"{point['n']} trainings" if point["n"] > 1 else "one training"
    return (
        f"{point['point']}: {name} {_with_deviation(point, error)}{beside} "
        f"at {point['flops_ratio']:.3f} of the multiply-adds and {point['params_ratio']:.3f} of the parameters, "
        f"{trainings}"
    )


def export_line(metrics: Mapping[str, float], dense: Mapping[str, float], error: Metric) -> str:
    """Return the test error and the costs of an exported sub-network beside the dense network's as one line.

    Parameters
    ----------
    metrics
        Its ``test_error`` and, where there is one, ``test_error_se``, and its costs.
    dense
        The dense network's costs and, where it was measured, its test error.
    error
        How errors are shown.
    """
    name = error.label.replace("validation", "test")
    noise, beside = metrics.get("test_error_se"), dense.get("test_error")
    shown = error.text(metrics["test_error"]) + ("" if noise is None else f" ± {error.text(noise)}")
    shown += "" if beside is None else f" (dense {error.text(beside)})"
    if "error" in metrics:
        shown += f", {error.label} {error.text(metrics['error'])},"
    ratios = [metrics[cost] / dense[cost] for cost in ("flops", "params")]
    return f"{name} {shown} at {ratios[0]:.3f} of the multiply-adds and {ratios[1]:.3f} of the parameters"


def _with_deviation(row: pd.Series, error: Metric) -> str:
    deviation = error.text(row["test_error_sd"])
    return error.text(row["test_error"]) + (f" ± {deviation}" if deviation else "")


FAR_APART = 0.15
"""Of the interquartile range over the median: such a latency is no number to compare with others."""


def _latency(row: pd.Series, key: str) -> str:
    """Return a latency or its ratio to dense as text, marked where its quartiles are far apart."""
    if pd.isna(row[key]):
        return ""
    # a ratio has quartiles of its own where it was measured in turns
    measured = key if f"{key}_q1" in row else f"{key.removesuffix('_ratio').removesuffix('_ms')}_ms"
    low, middle, high = (row.get(f"{measured}{part}", float("nan")) for part in ("_q1", "", "_q3"))
    return f"{'~' if high - low > FAR_APART * middle else ''}{row[key]:.2f}"


def _dense_latency(front: pd.DataFrame, key: str) -> str:
    if key.endswith("_ratio"):
        return "1.00"
    column = f"{key.removesuffix('_ms')}_dense_ms"
    return f"{front[column].median():.2f}" if column in front and front[column].notna().any() else ""


def _cells(row: Mapping[str, float] | pd.Series, error: Metric, shown: Iterable[str]) -> list[str]:
    return [
        error.text(row["error"]),
        error.text(row.get("error_se", float("nan"))),
        *(f"{row[name]:.4g}" for name in shown),
        f"{row['flops'] / 1e6:.3f}",
        f"{row['flops_ratio']:.3f}",
        f"{row['params'] / 1e3:.1f}",
        f"{row['params_ratio']:.3f}",
        *(f"{row[cost] / 1024:.0f}" for cost in ("bytes", "memory") if cost in row),
    ]
