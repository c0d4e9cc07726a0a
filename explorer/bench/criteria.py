"""Criteria side by side: what each makes of ResNet-20 at given FLOPs, by uniform and by global allocation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import nn

from explorer.bench.measured import Measured
from explorer.bench.published import published
from explorer.data import Batch
from explorer.evaluation.budgets import LatencyLimit
from explorer.problem import Problem
from explorer.pruning.criteria import CRITERIA, Options
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.setup import Setup
from explorer.search.jobs import Job
from explorer.utils.console import progress
from explorer.utils.files import atomic
from explorer.utils.space_section import named_space
from spaces import Budget, PruningSpace, costs_of

__all__ = ["Outcome", "criteria", "summary"]

# allocations of every criterion, and those made of magnitudes
_COMMON, _MAGNITUDE = ("uniform", "global"), {"l2": ("lamp", "erk")}


@dataclass(frozen=True)
class Outcome:
    """One evaluated sub-network: what was asked, and what it costs and gets wrong; costs relative to dense.

    `seed` is that of the calibration batches, or of a random criterion; errors are shares.
    """

    criterion: str
    allocation: str
    asked: float
    seed: int
    flops: float
    params: float
    error: float
    test_error: float


def criteria(config: dict[str, Any]) -> list[Measured]:
    """Return the validation error of every criterion at every share of the FLOPs; write a table of all that is known.

    ``results/bench/criteria-resnet20.csv`` has one row an `Outcome`, the .md file beside it their means. Weights are
    inherited and batch norm re-estimated; channels are pruned. The test error is measured of every sub-network and
    chooses nothing.

    Raises
    ------
    PruningError
        If data or weights are not given or not there.
    """
    options = config["criteria"]
    run = RunConfig.composed([*published("criteria", options), "device=cpu"])
    setup = Setup(run)
    module = setup.dense()
    network = setup.traced(module)
    space = PruningSpace.from_config(network, named_space("filter"))
    test = list(setup.batches("test", options["test_images"]))
    outcomes = []
    with progress("criteria", len(CRITERIA)) as show:
        for done, name in enumerate(CRITERIA, start=1):
            for problem, seed in _problems(setup, module, space, name, options):
                outcomes += list(_outcomes(problem, name, seed, options["ratios"], test))
            show(done, name)
    table = pd.DataFrame([asdict(outcome) for outcome in outcomes])
    dense = problem.dense["error"], problem.meter.task.evaluate(problem.meter.model, test).error
    _write(table, dense)
    return [
        Measured(
            f"{row['criterion']}, {row['allocation']}, {row['asked']:g} of the FLOPs: error", "", row["error"], "%"
        )
        for _, row in summary(table).iterrows()
    ]


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row a criterion, allocation and share asked: means and standard deviations, in per cent.

    Columns: ``flops``, ``params``, ``error``, ``error_sd``, ``test_error``, ``test_error_sd`` and ``seeds``; a
    deviation of one seed is missing.
    """
    groups = table.groupby(["criterion", "allocation", "asked"], sort=False)
    found = 100 * groups[["flops", "params", "error", "test_error"]].mean()
    deviations = 100 * groups[["error", "test_error"]].std()
    found[["error_sd", "test_error_sd"]] = deviations
    return found.assign(seeds=groups.size()).reset_index()


def _problems(
    setup: Setup, module: nn.Module, space: PruningSpace, name: str, options: Mapping[str, Any]
) -> Iterator[tuple[Problem, int]]:
    """Yield a criterion's problem for every seed that it depends on."""
    row = CRITERIA[name]
    size = setup.config.evaluator.batch_size
    calibration = list(setup.batches("train", options["calibration_batches"] * size))
    validation = list(setup.batches("validation", options["images"]))
    for seed in range(options["seeds"] if "seed" in row.options else 1):
        chosen = Options.of({"name": name} | ({"seed": seed} if "seed" in row.options else {}))
        scored = list(setup.batches("train", chosen.batches * size, seed=seed)) if chosen.needs_data else []
        problem = Problem.of(
            module,
            space,
            calibration,
            validation,
            limits=Budget(),
            latency=LatencyLimit(),
            objectives=["error", "flops"],
            criterion=chosen,
            task=setup.task,
            scored=scored,
        )
        yield problem, seed


def _outcomes(problem: Problem, name: str, seed: int, ratios: list[float], test: list[Batch]) -> Iterator[Outcome]:
    network, dense = problem.space.network, problem.space.dense
    for allocation in (*_COMMON, *_MAGNITUDE.get(name, ())):
        for ratio in ratios:
            found = problem.allocate(allocation, {"flops": ratio})
            error = problem.evaluator(Job(-1, found.recipe))["error"]
            tested = problem.meter.task.evaluate(problem.inherited.build(found.recipe), test).error
            params = costs_of(network, found.recipe)["params"] / dense["params"]
            yield Outcome(name, allocation, ratio, seed, found.achieved, params, error, tested)


def _write(table: pd.DataFrame, dense: tuple[float, float]) -> None:
    folder = RESULTS / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "criteria-resnet20.csv") as temporary:
        table.to_csv(temporary, index=False)
    lines = [
        "| criterion | allocation | FLOPs asked | FLOPs (%) | parameters (%) | validation error (%) | test error (%) |",
        "|---|---|---|---|---|---|---|",
        f"| dense | | | 100 | 100 | {100 * dense[0]:.2f} | {100 * dense[1]:.2f} |",
    ]
    for _, row in summary(table).iterrows():
        errors = [
            f"{row[key]:.2f}" + ("" if pd.isna(row[f"{key}_sd"]) else f" ± {row[f'{key}_sd']:.2f}")
            for key in ("error", "test_error")
        ]
        costs = f"{row['flops']:.2f} | {row['params']:.1f}"
        lines.append(
            f"| {row['criterion']} | {row['allocation']} | {row['asked']:g} | {costs} | {errors[0]} | {errors[1]} |"
        )
    with atomic(folder / "criteria-resnet20.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
