"""What tests of the command line share: quick settings, and a run's table without clocks."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

QUICK = ["training.epochs=2", "evaluator.calibration_batches=2", "evaluator.images=200", "trials=10"]
CLOCKS = r"seconds|latency.*|energy.*"


def table(run: Path) -> pd.DataFrame:
    trials = pd.read_parquet(run / "trials.parquet")
    return trials.drop(columns=trials.filter(regex=CLOCKS).columns)
