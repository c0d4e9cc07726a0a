"""Frontiers of evaluators side by side, on test images: inherited, reconstructed and fine-tuned sub-networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from explorer.analysis.plots import save
from explorer.analysis.plots.evaluators import evaluators_figure
from explorer.bench.measured import Measured
from explorer.bench.published import key_of, published
from explorer.evaluation.finetuning import Finetuned
from explorer.problem import Problem
from explorer.runs.config import RESULTS, RunConfig
from explorer.runs.setup import Setup
from explorer.search.frontier import hypervolume
from explorer.search.storage import open_study
from explorer.study import Study
from explorer.utils.console import progress
from explorer.utils.files import atomic
from spaces import Recipe

__all__ = ["EVALUATORS", "frontiers", "within"]

EVALUATORS = ("inherit", "reconstruct")
"""Those that train nothing."""

# what was found by `reconstruct` and fine-tuned from there
_FINETUNED = "fine-tuned"
# shares of the FLOPs, the best within each of which is measured on test
_STEPS = [step / 20 for step in range(1, 21)]
# who is to reach what: hypervolume after all trials, and test error within shares of the FLOPs
_OURS, _VOLUME, _ERRORS = ("reconstruct", "resnet20"), 0.70, {0.75: 0.125, 0.5: 0.16, 0.25: 0.28}


def frontiers(config: dict[str, Any]) -> list[Measured]:
    """Return the hypervolume of every evaluator, and the test errors of what it finds within shares of the FLOPs.

    Channels are searched by the default sampler. ``results/bench/frontiers/MODEL-EVALUATOR-KEY-SEED.csv`` has one row
    a trial: ``flops`` and ``params`` relative to dense, ``error`` on validation, ``hypervolume`` so far and, of the
    best within every twentieth of the FLOPs, ``test_error``, which chooses nothing; it is not made again. What
    ``reconstruct`` finds within every share is fine-tuned from there, a file likewise. All of them together, their
    table and their figure are written beside.

    Raises
    ------
    PruningError
        If data or weights are not given or not there.
    """
    options, folder = config["frontiers"], RESULTS / "bench" / "frontiers"
    tables = []
    jobs = [(evaluator, seed) for evaluator in options["evaluators"] for seed in range(options["seeds"])]
    with progress("frontiers", len(jobs)) as show:
        for done, (evaluator, seed) in enumerate(jobs, start=1):
            found = _Searched(options, evaluator, seed, folder)
            tables.append(found.trials)
            if evaluator == "reconstruct" and options["epochs"]:
                tables.append(found.finetuned())
            show(done, f"{evaluator} {seed}")
    table, dense = pd.concat(tables, ignore_index=True), found.dense()
    name = f"frontiers-{options['model']}"
    save(evaluators_figure(table, dense), folder / name)
    with atomic(folder / f"{name}.csv") as temporary:
        table.to_csv(temporary, index=False)
    best = within(table, options["ratios"])
    with atomic(folder / f"{name}.md") as temporary:
        temporary.write_text(_markdown(best, table, dense))
    return _figures(best, table, options["model"])


def within(table: pd.DataFrame, ratios: list[float]) -> pd.DataFrame:
    """Return one row an evaluator, seed and share of the FLOPs: the best by validation within it.

    Parameters
    ----------
    table
        One row a sub-network: ``evaluator``, ``seed``, ``flops``, ``error`` and ``test_error``.
    ratios
        The shares.
    """
    rows = []
    for (evaluator, seed), mine in table.groupby(["evaluator", "seed"], sort=False):
        for ratio, inside in _inside(mine, ratios):
            chosen = inside.loc[inside["error"].idxmin()]
            rows.append((evaluator, seed, ratio, *chosen[["flops", "error", "test_error"]]))
    return pd.DataFrame(rows, columns=["evaluator", "seed", "ratio", "flops", "error", "test_error"])


class _Searched:
    """One study, or what was kept of it."""

    def __init__(self, options: Mapping[str, Any], evaluator: str, seed: int, folder: Path) -> None:
        self._options, self._evaluator, self._seed, self._folder = options, evaluator, seed, folder
        self._setup, self._problem = self._made(f"evaluator={evaluator}", f"trials={options['trials']}")
        self._test = list(self._setup.batches("test"))
        self._path = self._file(evaluator, self._problem, self._setup.config.plan)
        self.trials = self._kept(evaluator, self._path, self._search)

    def finetuned(self) -> pd.DataFrame:
        """Return the best within every share of the FLOPs, fine-tuned."""
        options = self._options
        given = [f"finetuning.{key}={value}" for key, value in options["finetuning"].items()]
        rungs = f"evaluator.rungs=[{options['epochs']}]"
        _, problem = self._made("evaluator=finetune", "finetuning.start=reconstruct", rungs, *given)
        path = self._file(_FINETUNED, problem, [given, options["epochs"], options["ratios"], str(self._path)])
        return self._kept(_FINETUNED, path, lambda: self._train(problem))

    def _made(self, *overrides: str) -> tuple[Setup, Problem]:
        options = self._options
        images = f"evaluator.images={'null' if options['images'] is None else options['images']}"
        given = [
            *published("frontiers", options),
            "space=filter",
            f"seed={self._seed}",
            *overrides,
            images,
            "device=cpu",
        ]
        setup = Setup(RunConfig.composed(given))
        return setup, setup.problem()

    def _file(self, name: str, problem: Problem, decides: Any) -> Path:
        return self._folder / f"{self._options['model']}-{name}-{key_of(problem, decides)}-{self._seed}.csv"

    def _kept(self, name: str, path: Path, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        if not path.exists():
            table = make().assign(evaluator=name, seed=self._seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as temporary:
                table.to_csv(temporary, index=False)
        return pd.read_csv(path)

    def dense(self) -> float:
        """Return the dense network's test error."""
        return self._tested(self._problem, self._problem.meter.model)

    def _search(self) -> pd.DataFrame:
        problem, plan = self._problem, self._setup.config.plan
        search = problem.search(open_study(None, "frontiers", problem.scale.objectives), plan)
        search.run(plan.trials)
        study = Study(problem, search.records)
        recipes = [problem.space.recipe(record.row) for record in search.records]
        trials = study.trials
        steps = _inside(trials.assign(flops=trials["flops_ratio"]), _STEPS)
        chosen = {trials["trial"][inside["error"].idxmin()] for _, inside in steps}
        points = trials[["error", "flops_ratio"]].to_numpy(dtype=float)
        columns = {
            "trial": trials["trial"],
            "flops": trials["flops_ratio"],
            "params": trials["params_ratio"],
            "error": trials["error"],
            "hypervolume": [hypervolume(points[:n], problem.scale.reference) for n in range(1, len(points) + 1)],
            "test_error": [
                self._tested(problem, problem.inherited.build(recipe)) if trial in chosen else np.nan
                for trial, recipe in zip(trials["trial"], recipes, strict=True)
            ],
            "recipe": [recipe.to_yaml() for recipe in recipes],
        }
        return pd.DataFrame(columns)

    def _train(self, problem: Problem) -> pd.DataFrame:
        evaluator = problem.evaluator
        assert isinstance(evaluator, Finetuned)
        best = self.trials.loc[
            [int(inside["error"].idxmin()) for _, inside in _inside(self.trials, self._options["ratios"])]
        ]
        rows = []
        for _, row in best.drop_duplicates("trial").iterrows():
            module = evaluator.build(Recipe.from_yaml(row["recipe"]))
            error, tested = problem.meter.measured(module)["error"], self._tested(problem, module)
            rows.append(row.to_dict() | {"error": error, "test_error": tested, "hypervolume": np.nan})
        return pd.DataFrame(rows)

    def _tested(self, problem: Problem, module: nn.Module) -> float:
        return problem.meter.task.evaluate(module, self._test).error


def _inside(table: pd.DataFrame, ratios: Sequence[float]) -> Iterator[tuple[float, pd.DataFrame]]:
    """Yield shares of the FLOPs and what is measured and within them, where there is anything."""
    for ratio in ratios:
        inside = table[(table["flops"] <= ratio) & table["error"].notna()]
        if len(inside):
            yield ratio, inside


def _figures(best: pd.DataFrame, table: pd.DataFrame, model: str) -> list[Measured]:
    figures = []
    for evaluator, mine in table.dropna(subset="hypervolume").groupby("evaluator", sort=False):
        volumes = mine.groupby("seed")["hypervolume"].max()
        least = _VOLUME if (evaluator, model) == _OURS else None
        figures.append(Measured(f"{evaluator}: hypervolume", "", float(volumes.median()), "", at_least=least))
    for (evaluator, ratio), mine in best.groupby(["evaluator", "ratio"], sort=False):
        asked = _ERRORS.get(ratio) if (evaluator, model) == _OURS else None
        case = f"{evaluator}: test error within {ratio:g} of the FLOPs"
        most = None if asked is None else 100 * asked
        figures.append(Measured(case, "", 100 * float(mine["test_error"].median()), "%", at_most=most))
    return figures


def _markdown(best: pd.DataFrame, table: pd.DataFrame, dense: float) -> str:
    """Return the table of medians, with the least and the greatest of the seeds."""
    ratios = list(dict.fromkeys(best["ratio"]))
    lines = [
        "| evaluator | seeds | hypervolume | " + " | ".join(f"within {100 * ratio:g} %" for ratio in ratios) + " |",
        "|---|---|---|" + "---|" * len(ratios),
        "| dense | | |" + f" {100 * dense:.1f} |" * len(ratios),
    ]
    for evaluator, mine in table.groupby("evaluator", sort=False):
        volumes = mine.groupby("seed")["hypervolume"].max().dropna()
        cells = [_spread(volumes, "{:.3f}") if len(volumes) else ""]
        for ratio in ratios:
            errors = 100 * best[(best["evaluator"] == evaluator) & (best["ratio"] == ratio)]["test_error"]
            cells.append(_spread(errors, "{:.1f}") if len(errors) else "")
        lines.append(f"| {evaluator} | {mine['seed'].nunique()} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: pd.Series, form: str) -> str:
    low, middle, high = (form.format(value) for value in (values.min(), values.median(), values.max()))
    return f"{middle} ({low} to {high})"
