"""Folders of studies of which the answers are known: real spaces and tables, errors made up from the ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.sensitivity import sensitivity_table
from explorer.analysis.tables import Scale, frontier_table, trials_table
from explorer.runs.composing import compose
from explorer.search.history import Record
from explorer.search.rungs import agreement
from explorer.utils.space_section import space_of
from spaces import PruningSpace
from tests.support.synthetic import chain

DENSE_ERROR = 0.05
REFERENCE = {"error": 0.9, "flops": 1.0}


def network_of(name: str = "chain", layers: int = 6):
    """Return a chain of layers whose widths are large enough for every granularity."""
    return chain([32] * (layers - 1) + [10], positions=4, name=name)


def made_up_sensitivity(space: PruningSpace) -> pd.DataFrame:
    """Return a sensitivity table in which every choice changes the predictions by the square of what it removes."""
    changes = [(1 - np.asarray(axis.ratios)) ** 2 for axis in space.axes]
    return sensitivity_table(space, changes, [np.ones(len(change), dtype=bool) for change in changes])


def write_study(
    path: Path,
    *overrides: str,
    seed: int = 0,
    trials: int = 40,
    failed: int = 2,
    rungs: int = 1,
    worse: float = 0.0,
    layers: int = 6,
    reason: str = "out of memory",
    latency: bool = True,
    **summary: Any,
) -> RunFolder:
    """Write the folder of a study that never ran.

    The error of a recipe falls with the ratio of its second axis alone, by whose share of the weights it also costs
    little; `worse` is added to every error.

    Parameters
    ----------
    path
        The folder.
    overrides
        Of the configuration.
    seed, trials, failed
        Its seed, how many trials there are, and how many of them failed with `reason`.
    rungs
        How many rungs every third trial went through; the others stay at the first.
    layers
        Of the network.
    latency
        Whether frontier points have one.
    summary
        Further entries of the summary.
    """
    config = compose([*overrides, f"seed={seed}", f"trials={trials}"])[0]
    network = network_of(layers=layers)
    plain = dict(space_of(config["space"]))
    space = PruningSpace.from_config(network, plain)
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.integers(0, size, trials) for size in space.shape], axis=1).astype(np.int16)
    ladder = min(4, trials)
    for place in range(ladder):
        rows[place] = [round(place * (size - 1) / 3) for size in space.shape]
    records = []
    for place, row in enumerate(space.canonical(rows)):
        ratio = space.axes[1].ratios[row[1]]
        error = min(0.9, DENSE_ERROR + 0.8 * (1 - ratio) + worse + 0.01 * float(rng.random()))
        metrics = {"error": error, "error_se": 0.01, "loss": error, "seconds": 0.1}
        source = "ladder" if place < ladder else "search"
        if place >= trials - failed:
            records.append(Record(row, "FAIL", source, {}, reason=reason))
            continue
        reached = rungs - 1 if place % 3 == 0 else 0
        lower = tuple({**metrics, "error": min(0.9, error + 0.1 * (reached - r))} for r in range(reached))
        records.append(Record(row, "COMPLETE", source, metrics, rung=reached, lower=lower))
    table, scale = trials_table(space, records), Scale(list(REFERENCE), REFERENCE)
    front = frontier_table(table, scale)
    if latency:
        ratio = 1 + front["flops_ratio"]
        front = front.assign(latency_ms=ratio, latency_ms_q1=ratio, latency_ms_q3=2.0, latency_dense_ms=2.0)
    folder = RunFolder(path)
    facts = {"data_identity": "d", "network": network.identity, "hypervolume_reference": REFERENCE, "machine": "m"}
    folder.write_config(config | {"name": path.name, "identity": {"space": plain}, "facts": facts})
    folder.write_network(network)
    folder.write_trials(table)
    folder.write_frontier(front)
    folder.write_sensitivity(made_up_sensitivity(space))
    for _, row in front.iterrows():
        folder.write_recipe(folder.point(row["trial"]), space.recipe(records[int(row["trial"])].row), "made up")
    uniform = table[table["source"] == "ladder"]
    folder.write_summary(
        {
            "trials": len(table),
            "points": len(front),
            "ended": "trials",
            "hypervolume": scale.hypervolume(table),
            "hypervolume_ladder": scale.hypervolume(uniform),
            "failed": failed,
            "error": {"label": "validation error (%)", "scale": 100},
            "dense": {"error": DENSE_ERROR, "error_se": 0.005, "test_error": 0.06, **space.dense},
            "warnings": [],
            "tau": {name: vars(found) for name, found in agreement(records).items()},
        }
        | summary
    )
    return folder
