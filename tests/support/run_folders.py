"""Folders of runs that never ran: whole files, small values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from explorer.analysis.run_folder import RunFolder

CONFIG: dict[str, Any] = {
    **{"model": {"name": "timm"}, "data": {"name": "d"}, "task": {"name": "classification"}, "space": {"name": "s"}},
    **{
        "criterion": {"name": "l1"},
        "evaluator": {"name": "inherit"},
        "sampler": {"name": "random"},
        "seed": 0,
        "storage": {"url": None},
        "identity": {},
    },
    **{"facts": {"data_identity": "d", "network": "n", "machine": "m"}},
}
SUMMARY: dict[str, Any] = {
    **{"trials": 1, "points": 1, "ended": "trials", "hypervolume": 0.4, "hypervolume_ladder": None, "failed": 0},
    **{"error": {"label": "validation error (%)", "scale": 100.0}, "dense": {"error": 0.25}, "warnings": [], "tau": {}},
}
POINT = {
    **{"trial": 0, "state": "COMPLETE", "source": "search", "rung": 0, "granularity": "filter"},
    **{"error": 0.5, "error_se": 0.1, "loss": 1.0},
    **{f"{cost}{kind}": 0.5 for cost in ("flops", "params", "bytes") for kind in ("", "_ratio")},
}


def write_run(path: Path, *, summary: dict[str, Any] | None = None, **config: Any) -> RunFolder:
    """Write the tables, the configuration and the summary of a run of one trial, with other values where given."""
    folder = RunFolder(path)
    # facts last, as a run writes them
    facts = {"facts": CONFIG["facts"]}
    folder.write_config({key: value for key, value in CONFIG.items() if key != "facts"} | config | facts)
    folder.write_trials(pd.DataFrame([POINT]))
    folder.write_frontier(pd.DataFrame([POINT]))
    folder.write_summary(SUMMARY | (summary or {}))
    return folder
