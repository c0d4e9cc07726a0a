"""Solving against training at equal seconds: the test error of one recipe after so many seconds of either."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import nn

from explorer.bench.measured import Measured
from explorer.bench.published import key_of, published
from explorer.evaluation.training import reestimate_bn, train
from explorer.problem import Problem
from explorer.pruning.surgery.skeleton import copied
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.setup import Setup
from explorer.utils.console import progress
from explorer.utils.files import atomic

__all__ = ["figures", "training"]

# the defaults of finetuning.learning_rate, by the weights that training begins with
_RATES = {"inherit": 0.05, "reconstruct": 0.005}
# what all seconds are multiples of
_SOLVED = ("reconstruct", 1)
# steps of which the time of one is taken
_TIMED = 20


def training(config: dict[str, Any]) -> list[Measured]:
    """Return what training makes of pruned networks in the seconds that solving them takes, and in multiples of these.

    Each recipe is uniform over the widths inside residual blocks. Its layers are solved on the calibration images, with
    the seconds of one solution; or it is trained, from weights whose batch norms are re-estimated, in one cosine that
    takes so many times these seconds; or it is solved and then trained for the rest of the same seconds. The error is
    that of all test images, which nothing else sees. ``results/bench/training/MODEL-KEY.csv`` has one row a network:
    ``share`` of the FLOPs, ``start``, ``multiple`` of the seconds of solving, ``steps`` of training, ``seconds`` it
    took, ``error`` and ``error_se``. It is written after every row, and no row is made again.

    Raises
    ------
    PruningError
        If data or weights are not given or not there.
    """
    options = config["training"]
    given = [*published("training", options), "space=inner", f"seed={config['seed']}", "evaluator=reconstruct"]
    setup = Setup(RunConfig.composed([*given, "device=cpu"]))
    bench = _Bench(setup, setup.problem(), options["model"])
    kinds = [_SOLVED, *((start, multiple) for multiple in options["multiples"] for start in _RATES)]
    jobs = [(share, *kind) for share in options["shares"] for kind in dict.fromkeys(kinds)]
    with progress("training", len(jobs)) as show:
        for done, (share, start, multiple) in enumerate(jobs, start=1):
            bench.measure(share, start, multiple)
            show(done, f"{share:g} of the FLOPs, {start}, {multiple:g} times")
    return figures(bench.table)


def figures(table: pd.DataFrame) -> list[Measured]:
    """Return by share of the FLOPs the errors after the seconds of a solution, and when training is as good."""
    found = []
    for share, rows in table.groupby("share", sort=False):
        solved = rows[(rows["start"] == "reconstruct") & (rows["multiple"] == 1)].iloc[0]
        trained = rows[rows["start"] == "inherit"].sort_values("multiple")
        as_good = trained.loc[trained["error"] <= solved["error"], "multiple"]
        case = f"{share:g} of the FLOPs"
        found += [
            Measured(f"{case}: error, solved", "", 100 * solved["error"], "%"),
            *(
                Measured(
                    f"{case}: error, trained for {row['multiple']:g} times the seconds", "", 100 * row["error"], "%"
                )
                for _, row in trained.iterrows()
            ),
            Measured(f"{case}: seconds of training until as good", "solving", float(min(as_good, default=math.inf))),
        ]
    return found


class _Bench:
    """One network with its data, and the rows that are measured."""

    def __init__(self, setup: Setup, problem: Problem, model: str) -> None:
        self._setup, self._problem = setup, problem
        self._test = problem.meter.laid_out(list(setup.batches("test")))
        folder = RESULTS / "bench" / "training"
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{model}-{key_of(problem)}.csv"
        self.table = pd.read_csv(self._path) if self._path.exists() else pd.DataFrame()

    def measure(self, share: float, start: str, multiple: float) -> None:
        """Add a row, unless it is there."""
        if len(self.table) and len(self._rows(share, start, multiple)):
            return
        module, took = self._calibrated(share, start)
        steps = 0
        if (start, multiple) != _SOLVED:
            solution = float(self._rows(share, *_SOLVED)["seconds"].iloc[0])
            steps, trained = self._train(module, _RATES[start], multiple * solution - took)
            took += trained
        scored = self._problem.meter.task.evaluate(module, self._test)
        row = {"share": share, "start": start, "multiple": multiple, "steps": steps, "seconds": took}
        errors = {"error": scored.error, "error_se": scored.error_se}
        self.table = pd.concat([self.table, pd.DataFrame([row | errors])], ignore_index=True)
        with atomic(self._path) as temporary:
            self.table.to_csv(temporary, index=False)

    def _rows(self, share: float, start: str, multiple: float) -> pd.DataFrame:
        table = self.table
        return table[(table["share"] == share) & (table["start"] == start) & (table["multiple"] == multiple)]

    def _calibrated(self, share: float, start: str) -> tuple[nn.Module, float]:
        """Return the pruned network, solved or with batch norms re-estimated, and the seconds that took."""
        recipe = self._problem.allocate("uniform", {"flops": share}).recipe
        module, masks = self._problem.inherited.pruned(recipe)
        begun = time.perf_counter()
        if start == "reconstruct":
            self._problem.inherited.calibrate(module, masks, recipe)
        else:
            reestimate_bn(module, self._problem.inherited.calibration)
        return module, time.perf_counter() - begun

    def _train(self, module: nn.Module, rate: float, left: float) -> tuple[int, float]:
        """Train for about the seconds that are left; return the steps and the seconds."""
        _, spent = self._steps(copied(module), rate, _TIMED)
        steps = max(1, round(left * _TIMED / spent))
        return self._steps(module, rate, steps)

    def _steps(self, module: nn.Module, rate: float, steps: int) -> tuple[int, float]:
        """Train for so many steps along one cosine, in epochs of equal length; return the steps and the seconds."""
        config = self._setup.config
        batches = self._setup.shuffled(config.finetuning_batch, config.plan.seed)
        epochs = math.ceil(steps / len(batches))
        each = math.ceil(steps / epochs)
        settings = replace(config.finetuning, learning_rate=rate, steps=each)
        begun = time.perf_counter()
        train(module, batches, task=self._problem.meter.task, epochs=epochs, settings=settings)
        return epochs * each, time.perf_counter() - begun
