"""Samplers side by side: the hypervolume each has reached after so many evaluations, on real spaces."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from explorer.analysis.plots import save
from explorer.analysis.plots.samplers import median_curves, samplers_figure
from explorer.bench.measured import Measured
from explorer.bench.published import key_of, published
from explorer.evaluation.features import Features
from explorer.models import MODELS
from explorer.problem import Problem
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.setup import Setup
from explorer.search.frontier import hypervolume
from explorer.search.jobs import Job
from explorer.search.plan import Plan
from explorer.search.samplers import Observations, Parameters, Past, make_sampler
from explorer.search.search import Record
from explorer.search.storage import open_study
from explorer.tracing import trace
from explorer.utils.conf import named_section
from explorer.utils.console import progress
from explorer.utils.files import atomic
from explorer.utils.space_section import named_space
from spaces import Budget, PruningSpace

__all__ = ["SPACES", "samplers", "standings"]

SPACES: Mapping[str, tuple[str, ...]] = {
    "filter": ("space=filter", "evaluator=inherit"),
    "reconstructed": ("space=filter", "evaluator=reconstruct"),
    "mixed": ("space=mixed", "evaluator=inherit"),
    "digits": ("model=resnet_digits", "data=digits", "space=filter", "evaluator=finetune", "evaluator.rungs=[1]"),
}
"""The spaces, as overrides of conf/run.yaml; of ResNet-20 all but the digits."""

_OURS = "frontier"
# trials in which ours is to reach the best other's last median, by space; and how much further it is to get
_TRIALS, _FURTHER = {"filter": 16, "reconstructed": 16, "mixed": 24, "digits": 24}, {"filter": 1.05}
_LADDER = 8
# measurements after which a proposal is timed
_ASKED = 500


def samplers(config: dict[str, Any]) -> list[Measured]:
    """Return how many trials the frontier sampler needs to reach the best other's median, and where it ends.

    Every finished curve is kept as ``results/bench/samplers/SPACE-KEY-SAMPLER-SEED.csv``, one row a trial, and not run
    again; KEY stands for everything else that decides it but the sampler's code. An evaluation depends on its recipe
    only: all samplers and seeds share them in ``SPACE-KEY.jsonl``. A figure of all curves and their table are written
    beside them.

    Raises
    ------
    PruningError
        If data or weights are asked for and not given.
    """
    options = config["samplers"]
    folder = RESULTS / "bench" / "samplers"
    tables = []
    for space in options["spaces"]:
        problem, key = _problem(space, options)
        # once nothing is refused any more
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(sampler, seed) for sampler in options["samplers"] for seed in range(options["seeds"])]
        with progress(f"samplers, {space}", len(jobs)) as show:
            for done, (sampler, seed) in enumerate(jobs, start=1):
                path = folder / f"{space}-{key}-{sampler}-{seed}.csv"
                curve = _kept(path, options["trials"])
                if curve is None:
                    curve = _curve(problem, sampler, seed, options["trials"])
                    with atomic(path) as temporary:
                        curve.to_csv(temporary, index=False)
                tables.append(curve.head(options["trials"]).assign(space=space, sampler=sampler, seed=seed))
                show(done, f"{sampler} {seed}")
    curves = pd.concat(tables, ignore_index=True)
    save(samplers_figure(median_curves(curves)), folder / "samplers")
    with atomic(folder / "samplers-curves.csv") as temporary:
        curves.to_csv(temporary, index=False)
    return [*_figures(standings(curves)), _ask(config["seed"])]


def standings(curves: pd.DataFrame) -> pd.DataFrame:
    """Return one row a space and sampler: medians over the seeds.

    Parameters
    ----------
    curves
        One row a trial: ``space``, ``sampler``, ``seed``, ``trial`` (from 1) and ``hypervolume``.

    Returns
    -------
    pandas.DataFrame
        ``final``, the hypervolume at the end; ``best_other``, the greatest final of the other samplers of the space;
        ``ratio`` of the two; ``needed``, the trials after which the median curve has reached `best_other`, NaN where it
        never does.
    """
    medians = curves.groupby(["space", "sampler", "trial"], sort=False)["hypervolume"].median().unstack()  # noqa: PD010
    final = medians.ffill(axis=1).iloc[:, -1]
    rows = []
    for space, sampler in medians.index:
        others = final[space].drop(sampler)
        best = float(others.max()) if len(others) else float("nan")
        there = medians.columns[medians.loc[(space, sampler)] >= best]
        mine = float(final[space, sampler])
        needed = float(there[0]) if len(there) else float("nan")
        rows.append((space, sampler, mine, best, mine / best, needed))
    return pd.DataFrame(rows, columns=["space", "sampler", "final", "best_other", "ratio", "needed"])


def _figures(table: pd.DataFrame) -> Iterator[Measured]:
    for _, row in table.iterrows():
        space, sampler = row["space"], row["sampler"]
        yield Measured(f"{space}: {sampler}, hypervolume at the end", "", row["final"], "")
        if sampler == _OURS and not np.isnan(row["best_other"]):
            yield Measured(
                f"{space}: trials to the best other's last median", "", row["needed"], "trials", at_most=_TRIALS[space]
            )
            yield Measured(f"{space}: hypervolume at the end", "best other", row["ratio"], at_least=_FURTHER.get(space))


def _ask(seed: int) -> Measured:
    """Return how long a proposal takes in the space of ResNet-56's channels after 500 made-up trials.

    It is the processor's time, since what else runs on the machine says nothing of the sampler.
    """
    network = trace(MODELS["resnet56"](), torch.zeros(1, 3, 32, 32), name="resnet56")
    space = PruningSpace.from_config(network, named_space("filter"))
    rng = np.random.default_rng(seed)
    changes = tuple(np.sort(rng.random(len(axis.choices))) ** 2 for axis in space.axes)
    features = Features(changes, tuple(np.ones(len(table), dtype=bool) for table in changes), 0)
    rows = space.sample(_ASKED, rng)
    errors = 0.9 * (1 - np.exp(-np.exp(features(rows)[:, 0] - 2))) * np.exp(0.05 * rng.normal(size=_ASKED))
    observed = Observations(
        rows,
        np.column_stack([errors, space.costs(rows)["flops"] / space.dense["flops"]]),
        np.full(_ASKED, 0.01),
        np.zeros(_ASKED, dtype=np.intp),
    )
    seconds = []
    past = Past.empty(space, Budget(), ["error", "flops"], seed=seed)
    for proposed in range(_ASKED, _ASKED + 6):
        asking = replace(past, observed=observed, proposed=proposed, reference=[0.9, 1.0], features=features)
        study, parameters = open_study(None, "ask", asking.objectives), Parameters(space)
        study.sampler = make_sampler(_OURS, asking, {})
        begin = time.process_time()
        study.ask(parameters.distributions)
        seconds.append(time.process_time() - begin)
    # the first one fits the kernel's parameters, for all that follow
    case = f"ask after {_ASKED} trials, ResNet-56 ({len(space.axes)} axes); with a fit {1000 * seconds[0]:.0f} ms"
    return Measured(case, "", 1000 * float(np.median(seconds[1:])), "ms", at_most=300)


def _problem(space: str, options: Mapping[str, Any]) -> tuple[Problem, str]:
    """Return the problem of a space, its evaluations kept, and what stands for it in names of files."""
    model = [] if space == "digits" else published("samplers", options)
    size = [f"evaluator.{key}={options[key]}" for key in ("images", "calibration_batches")]
    run = RunConfig.composed([*model, *SPACES[space], *size, "device=cpu"])
    problem = Setup(run).problem()
    key = key_of(problem, run.evaluator, run.finetuning)
    kept = _Kept(problem.evaluator, RESULTS / "bench" / "samplers" / f"{space}-{key}.jsonl")
    return replace(problem, evaluator=kept), key  # type: ignore[arg-type]


def _curve(problem: Problem, sampler: str, seed: int, trials: int) -> pd.DataFrame:
    study = open_study(None, "samplers", problem.scale.objectives)
    options = named_section("sampler", sampler)["options"]
    plan = Plan(problem.scale.objectives, sampler, options, seed, ladder=_LADDER, eta=3, trials=trials, timeout=None)
    search = problem.search(study, plan)
    search.run(trials)
    return _table(search.records, problem)


def _table(records: list[Record], problem: Problem) -> pd.DataFrame:
    """Return one row a trial: its objectives, and the hypervolume of all so far."""
    missing = [np.nan] * len(problem.scale.objectives)
    values = np.array([record.values or missing for record in records], dtype=float)
    volumes = [hypervolume(values[: i + 1], problem.scale.reference) for i in range(len(values))]
    table = pd.DataFrame(values, columns=problem.scale.columns)
    return table.assign(
        trial=np.arange(1, len(values) + 1), source=[record.source for record in records], hypervolume=volumes
    )


def _kept(path: Path, trials: int) -> pd.DataFrame | None:
    """Return a curve that was finished before, None where there is none as long."""
    if not path.exists():
        return None
    table = pd.read_csv(path)
    return table if len(table) >= trials else None


class _Kept:
    """What measures recipes, none of them twice, whoever asks."""

    def __init__(self, evaluate: Any, path: Path) -> None:
        self._evaluate, self._path = evaluate, path
        lines = path.read_text().splitlines() if path.exists() else []
        self._known: dict[str, dict[str, float]] = dict(map(json.loads, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluate, name)

    def __call__(self, job: Job) -> dict[str, float]:
        key = json.dumps(job.recipe.to_dict())
        if key not in self._known:
            self._known[key] = dict(self._evaluate(job))
            with self._path.open("a") as file:
                file.write(json.dumps([key, self._known[key]]) + "\n")
        return self._known[key]
