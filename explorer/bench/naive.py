"""The naive loop: what anyone writes with Optuna, against a study of this project on the same images."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optuna
import pandas as pd
from torch import nn

from explorer.bench.measured import Measured
from explorer.bench.others.costs import multiply_adds
from explorer.bench.published import published
from explorer.evaluation.training import reestimate_bn
from explorer.models.resnet import BasicBlock
from explorer.problem import Problem
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.setup import Setup
from explorer.search.frontier import hypervolume
from explorer.search.jobs import Job
from explorer.search.storage import open_study
from explorer.utils.files import atomic
from spaces import PruningError

__all__ = ["Clock", "naive", "pruned_by_hand"]

# times as many candidates a second, and the share of the naive loop's time in which a study has its hypervolume
_FASTER, _SOONER = 10.0, 1 / 12


@dataclass
class Clock:
    """When each candidate was known, in seconds since the first was asked for, and its error and share of the FLOPs."""

    points: list[tuple[float, float, float]] = field(default_factory=list)
    begun: float = field(default_factory=time.perf_counter)

    def add(self, error: float, flops: float) -> None:
        """Note a candidate that is known now."""
        self.points.append((time.perf_counter() - self.begun, error, flops))

    def curve(self, loop: str, reference: Sequence[float]) -> pd.DataFrame:
        """Return one row a candidate: ``loop``, ``seconds``, ``error``, ``flops`` and the ``hypervolume`` so far."""
        table = pd.DataFrame(self.points, columns=["seconds", "error", "flops"])
        values = table[["error", "flops"]].to_numpy()
        table["hypervolume"] = [hypervolume(values[: i + 1], reference) for i in range(len(values))]
        table.insert(0, "loop", loop)
        return table


def naive(config: dict[str, Any]) -> list[Measured]:
    """Return how many more candidates a second a study has than the naive loop, and how much sooner its hypervolume.

    The naive loop copies the dense network, cuts the filters of least magnitude inside every residual block by hand,
    counts multiply-adds with hooks, re-estimates batch norms and measures the error, on the same batches in memory that
    the study has, and asks Optuna's default sampler of two objectives. The study searches the same ratios of the same
    units. Each has the same minutes. ``results/bench/naive-curves.csv`` has one row a candidate of both, see `Clock`.

    Raises
    ------
    PruningError
        If data or weights are not given or not there, or a loop has no candidate in its minutes.
    """
    options = config["naive"]
    images = "null" if options["images"] is None else options["images"]
    evaluator = [f"evaluator={options['evaluator']}", f"evaluator.images={images}"]
    given = [*published("naive", options), "space=inner", f"seed={config['seed']}", *evaluator, "device=cpu"]
    setup = Setup(RunConfig.composed(given))
    problem = setup.problem()
    loops: Mapping[str, Callable[[], Clock]] = {
        "naive": lambda: _naive(problem, options["minutes"], config["seed"]),
        "study": lambda: _study(problem, setup, options["minutes"]),
    }
    curves = {name: loop().curve(name, problem.scale.reference) for name, loop in loops.items()}
    for name, curve in curves.items():
        if curve.empty:
            raise PruningError(f"naive.minutes: {options['minutes']}, no candidate of the {name} loop ended in them")
    folder = RESULTS / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "naive-curves.csv") as temporary:
        pd.concat(curves.values(), ignore_index=True).to_csv(temporary, index=False)
    return _figures(curves["naive"], curves["study"], options["model"])


def _figures(theirs: pd.DataFrame, ours: pd.DataFrame, model: str) -> list[Measured]:
    speeds = [len(curve) / curve["seconds"].iloc[-1] for curve in (ours, theirs)]
    volume, took = theirs["hypervolume"].iloc[-1], theirs["seconds"].iloc[-1]
    there = ours.loc[ours["hypervolume"] >= volume, "seconds"]
    share = float(there.iloc[0]) / took if len(there) else float("inf")
    return [
        Measured(f"{model}: candidates/s", "naive loop", speeds[0] / speeds[1], at_least=_FASTER),
        Measured(f"{model}: candidates/s of the study", "", speeds[0], "/s"),
        Measured(f"{model}: candidates/s of the naive loop", "", speeds[1], "/s"),
        Measured(f"{model}: seconds until its hypervolume", "naive loop", share, at_most=_SOONER),
        Measured(f"{model}: hypervolume of the study", "", float(ours["hypervolume"].iloc[-1]), ""),
        Measured(f"{model}: hypervolume of the naive loop", "", float(volume), ""),
    ]


def _naive(problem: Problem, minutes: float, seed: int) -> Clock:
    model, validation = problem.meter.model, problem.meter.validation
    example = validation[0][0][:1]
    dense = multiply_adds(model, example)
    blocks = [name for name, part in model.named_modules() if isinstance(part, BasicBlock)]
    clock = Clock()

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        ratios = {name: trial.suggest_float(name, 0.125, 1.0, step=0.125) for name in blocks}
        module = pruned_by_hand(model, ratios)
        flops = multiply_adds(module, example) / dense
        reestimate_bn(module, problem.inherited.calibration)
        error = problem.meter.task.evaluate(module, validation).error
        clock.add(error, flops)
        return error, flops

    study = optuna.create_study(directions=["minimize"] * 2, sampler=optuna.samplers.NSGAIISampler(seed=seed))
    study.optimize(objective, timeout=60 * minutes)
    return clock


def _study(problem: Problem, setup: Setup, minutes: float) -> Clock:
    plan, clock = setup.config.plan, Clock()
    timed = _Timed(problem.evaluator, clock, problem)
    search = replace(problem, evaluator=timed).search(  # type: ignore[arg-type]
        open_study(None, "naive", problem.scale.objectives), plan
    )
    search.run(np.iinfo(np.int32).max, timeout=minutes)
    return clock


class _Timed:
    """An evaluator that notes when each candidate was known."""

    def __init__(self, evaluator: Any, clock: Clock, problem: Problem) -> None:
        self._evaluator, self._clock, self._problem = evaluator, clock, problem

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def __call__(self, job: Job) -> dict[str, float]:
        metrics = self._evaluator(job)
        space = self._problem.space
        flops = space.costs(space.row(job.recipe)[None])["flops"][0] / space.dense["flops"]
        self._clock.add(metrics["error"], float(flops))
        return metrics


def pruned_by_hand(model: nn.Module, ratios: Mapping[str, float]) -> nn.Module:
    """Return a copy of a CIFAR ResNet whose blocks keep the filters of greatest magnitude between their convolutions.

    Parameters
    ----------
    model
        The dense network.
    ratios
        The share kept, by block.
    """
    small = copy.deepcopy(model)
    for name, ratio in ratios.items():
        block: Any = small.get_submodule(name)
        weight = block.conv1.weight.data
        count = max(1, int(ratio * len(weight) + 0.5))
        kept = weight.abs().sum((1, 2, 3)).topk(count).indices.sort().values
        block.conv1.weight.data = weight[kept]
        block.conv1.out_channels = block.conv2.in_channels = block.bn1.num_features = count
        for tensor in ("weight", "bias", "running_mean", "running_var"):
            part = getattr(block.bn1, tensor)
            part.data = part.data[kept]
        block.conv2.weight.data = block.conv2.weight.data[:, kept]
    return small
