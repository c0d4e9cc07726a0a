"""What rungs and racing save: the hypervolume that a search reaches in the same time, with them and without."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from explorer.bench.measured import Measured
from explorer.bench.published import published
from explorer.problem import Problem
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.setup import Setup
from explorer.search.frontier import hypervolume
from explorer.search.history import Record
from explorer.search.plan import Plan
from explorer.search.storage import open_study
from explorer.utils.console import progress
from explorer.utils.files import atomic

__all__ = ["PROBLEMS", "racing", "rungs"]

PROBLEMS: Mapping[str, dict[str, list[int]]] = {
    "digits": {"no rungs": [8], "rungs": [0, 2, 8]},
    "resnet20": {"no rungs": [3], "rungs": [0, 1, 3]},
}
"""Epochs trained in all at each rung, by problem and variant."""

_DIGITS = ("model=resnet_digits", "data=digits")
# candidates of ResNet-20 are trained on this many images an epoch, so that minutes are enough
_IMAGES = 5000


def rungs(config: dict[str, Any]) -> list[Measured]:
    """Return the hypervolume with rungs over that without, after the same seconds; write every curve.

    ``results/bench/rungs-curves.csv`` has one row an evaluation: ``problem``, ``variant``, ``seed``, ``seconds`` since
    the search began, ``recipes`` so far and the ``hypervolume`` they have.
    """
    options = config["rungs"]
    tables = []
    jobs = [(name, variant, seed) for name in options["problems"] for seed in range(options["seeds"])
            for variant in PROBLEMS[name]]  # fmt: skip
    with progress("rungs", len(jobs)) as show:
        for done, (name, variant, seed) in enumerate(jobs, start=1):
            trained = PROBLEMS[name][variant]
            setup = _setup(config, name, ["evaluator=finetune", f"evaluator.rungs={trained}"], seed)
            with tempfile.TemporaryDirectory() as folder:
                problem = setup.problem(Path(folder))
                table = _curve(problem, options["sampler"], seed, minutes=options["minutes"][name])
            tables.append(table.assign(problem=name, variant=variant))
            show(done, f"{name}, {variant}, seed {seed}")
    curves = _write("rungs", tables)
    last = curves.groupby(["problem", "variant", "seed"], sort=False)["hypervolume"].last().sort_index()
    figures = []
    for name in options["problems"]:
        ends = {variant: median(last[name, variant]) for variant in PROBLEMS[name]}
        minutes = options["minutes"][name]
        figures += [
            Measured(f"{name}: hypervolume after {minutes:g} minutes, {variant}", "", value, "")
            for variant, value in ends.items()
        ]
        figures.append(Measured(f"{name}: rungs", "no rungs", ends["rungs"] / ends["no rungs"], at_least=1))
    return figures


def racing(config: dict[str, Any]) -> list[Measured]:
    """Return evaluations an hour with racing over those without, and the hypervolumes they end with.

    ``results/bench/racing-curves.csv`` is as that of `rungs`. Weights are inherited. The frontier's points are measured
    on all validation images in either case.
    """
    options = config["racing"]
    tables = []
    variants = {"all images": "false", "racing": "true"}
    jobs = [(seed, variant) for seed in range(options["seeds"]) for variant in variants]
    with progress("racing", len(jobs)) as show:
        for done, (seed, variant) in enumerate(jobs, start=1):
            setup = _setup(
                config, "resnet20", ["evaluator=inherit", f"evaluator.racing={variants[variant]}"], seed, key="racing"
            )
            table = _curve(setup.problem(), options["sampler"], seed, trials=options["trials"])
            tables.append(table.assign(problem="resnet20", variant=variant))
            show(done, f"{variant}, seed {seed}")
    curves = _write("racing", tables)
    groups = curves.groupby(["variant", "seed"], sort=False)
    rate, volume = groups.size() / groups["seconds"].last() * 3600, groups["hypervolume"].last()
    figures = []
    for variant in variants:
        figures.append(Measured(f"{variant}: evaluations an hour", "", median(rate[variant]), ""))
        figures.append(Measured(f"{variant}: hypervolume at the end", "", median(volume[variant]), ""))
    ratio = median((rate["racing"] / rate["all images"]).tolist())
    figures.append(Measured("evaluations an hour, racing", "all images", ratio, at_least=2))
    ratio = median((volume["racing"] / volume["all images"]).tolist())
    return [*figures, Measured("hypervolume at the end, racing", "all images", ratio)]


def _setup(config: Mapping[str, Any], name: str, overrides: Sequence[str], seed: int, *, key: str = "rungs") -> Setup:
    if name == "digits":
        run = RunConfig.composed([*_DIGITS, *overrides, f"seed={seed}", "device=cpu"])
        return Setup(run)
    run = RunConfig.composed([*published(key, config[key]), *overrides, f"seed={seed}", "device=cpu"])
    setup = Setup(run)
    if setup.config.evaluator.trains:
        setup.data = replace(setup.data, train=setup.data.train.subset(range(_IMAGES)))
    return setup


def _curve(
    problem: Problem, sampler: str, seed: int, *, trials: int = 10_000, minutes: float | None = None
) -> pd.DataFrame:
    """Return one row an evaluation that ended in time."""
    study = open_study(None, "saving", problem.scale.objectives)
    plan = Plan(problem.scale.objectives, sampler, {}, seed, ladder=8, eta=3, trials=trials, timeout=minutes)
    search = problem.search(study, plan)
    rows: list[dict[str, float]] = []
    begin = time.perf_counter()

    def note(records: list[Record]) -> None:
        values = [record.values for record in records if record.values is not None]
        seconds = time.perf_counter() - begin
        if minutes is None or seconds <= 60 * minutes:
            volume = hypervolume(values, problem.scale.reference)
            rows.append({"seed": seed, "seconds": seconds, "recipes": len(records), "hypervolume": volume})

    search.run(plan.trials, timeout=plan.timeout, on_record=note)
    return pd.DataFrame(rows)


def _write(name: str, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    folder = RESULTS / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / f"{name}-curves.csv") as temporary:
        table.to_csv(temporary, index=False)
    return table
