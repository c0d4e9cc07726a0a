"""Evaluations in several processes: what workers add, whether they are busy, what recorded trials cost a driver."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from explorer.analysis.run_folder import RunFolder
from explorer.bench.cases import Case
from explorer.bench.measured import Measured
from explorer.data.task import classification
from explorer.evaluation.evaluator import Inherited
from explorer.search.executors import make_executor
from explorer.search.jobs import Evaluate, Executor, Job
from explorer.search.search import Search
from explorer.search.storage import journal, open_study
from explorer.utils.timing import Timing, interleaved
from spaces import Budget, PruningSpace

__all__ = ["PARTS", "executors"]

Options = Mapping[str, Any]
_OBJECTIVES = ["error", "flops"]
# evaluations a worker makes while all are busy, and those timed after so many trials
_ROUNDS = 8
_TIMED = 64


def executors(config: dict[str, Any]) -> list[Measured]:
    """Return the figures of the parts that ``executors.parts`` names, see `PARTS`."""
    return [figure for part in config["executors"]["parts"] for figure in PARTS[part](config)]


def _workers(config: dict[str, Any]) -> list[Measured]:
    """Return candidates a second of two one-thread workers over one, and over one with all threads.

    All search the same space at random, evaluating by inherited weights; their turns alternate.
    """
    options, evaluate_options = config["executors"], config["evaluate"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    figures = []
    for name in options["models"]:
        case = Case.built_in(name)
        torch.manual_seed(config["seed"])
        size, shape = evaluate_options["batch_size"], case.example.shape[1:]
        counts = (evaluate_options["calibration_batches"], -(-evaluate_options["images"] // size))
        calibration, validation = (
            [(torch.randn(size, *shape), torch.randint(10, (size,))) for _ in range(count)] for count in counts
        )
        evaluator = Inherited.of(
            case.model, case.network, case.pruner.scores, calibration, validation, classification(10)
        )
        with ExitStack() as stack:
            turns: list[Callable[[], object]] = []
            for workers, threads in ((2, 1), (1, 1), (1, cores)):
                executor = stack.enter_context(_local(evaluator, workers, threads))
                search = _search(case.space, executor, config["seed"])
                turns.append(partial(_further, search, options["candidates"]))
            two, one, wide = interleaved(turns, runs=options["turns"], seconds=float("inf"))
        for other, theirs, least in (
            ("one worker, one thread", one, 1.6),
            (f"one worker, {cores} threads", wide, 1.0),
        ):
            what = f"{name}, two workers of one thread: candidates/s"
            figures.append(Measured(what, other, theirs.median / two.median, at_least=least, ours=two, theirs=theirs))
    return figures


def _busy(config: dict[str, Any]) -> list[Measured]:
    """Return the share of their time in which workers evaluate, of all from when all do until nothing is left to begin.

    Evaluations sleep; how long is uniform within half of the mean more and less.
    """
    options = config["executors"]
    seconds, workers = options["seconds"], options["workers"]
    space = Case.built_in(options["model"]).space
    figures = []
    for sampler in options["samplers"]:
        with (
            tempfile.TemporaryDirectory() as folder,
            _local(_simulated(seconds, config["seed"]), workers, 1) as executor,
        ):
            search = _search(space, executor, config["seed"], sampler=sampler, folder=Path(folder))
            search.run(workers * _ROUNDS)
            times = np.array([[record.metrics["begin"], record.metrics["end"]] for record in search.records])
        first, last = np.sort(times[:, 0])[[workers - 1, -1]]
        busy = np.clip(times, first, last)
        share = float(np.diff(busy).sum() / (workers * (last - first)))
        what = f"{workers} workers, evaluations of {seconds:g} s +- 50 %, {sampler}: share of their time they evaluate"
        figures.append(Measured(what, "", share, unit="", at_least=0.95))
    return figures


def _recorded(config: dict[str, Any]) -> list[Measured]:
    """Return the mean time of asking and telling with many recorded trials over that with few, on a journal."""
    options = config["executors"]
    space = Case.built_in(options["model"]).space
    timings: dict[str, list[tuple[float, Timing]]] = {sampler: [] for sampler in options["samplers"]}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        evaluate = _simulated(0, config["seed"])
        executor = make_executor({"name": "inline"}, evaluate, folder=folder, device="cpu")
        for count in options["trials"]:
            search = _search(space, executor, config["seed"], folder=folder)
            search.run(max(count, len(search.records)))
            for sampler, found in timings.items():
                search = _search(space, executor, config["seed"], sampler=sampler, folder=folder)
                # what a new search finds out once is no part of it
                _further(search, 1)
                stamps = _stamps(search, _TIMED)
                steps = 1000 * np.diff(stamps)
                found.append((float(steps.mean()), Timing(tuple(steps.tolist()))))
    few, many = options["trials"]
    return [
        Measured(
            f"asking and telling, {sampler}, {many:,} trials recorded: mean time",
            f"{few:,} recorded",
            theirs[0] / ours[0],
            at_most=2,
            ours=theirs[1],
            theirs=ours[1],
        )
        for sampler, (ours, theirs) in timings.items()
    ]


PARTS: Mapping[str, Callable[[dict[str, Any]], list[Measured]]] = {
    "workers": _workers,
    "busy": _busy,
    "recorded": _recorded,
}
"""From a configuration to figures, by the name of what is measured."""


def _simulated(seconds: float, seed: int) -> Evaluate:
    """Return an evaluation that sleeps; its workers need not import torch, as they would for a function with a name."""

    def evaluate(job: Job) -> dict[str, float]:
        begin = time.time()
        rng = np.random.default_rng([seed, job.number])
        time.sleep(seconds * rng.uniform(0.5, 1.5))
        kept = sum(job.recipe.ratios.values()) / max(1, len(job.recipe.ratios))
        error = 0.9 * (1 - kept) ** 2 + 0.01 * rng.random()
        return {"error": error, "error_se": 0.003, "loss": 1.0, "begin": begin, "end": time.time()}

    return evaluate


@contextmanager
def _local(evaluate: Evaluate, workers: int, threads: int) -> Iterator[Executor]:
    section = {"name": "local", "workers": workers, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        executor = make_executor(section, evaluate, folder=Path(folder), device="cpu")
        try:
            yield executor
        finally:
            executor.close()


def _search(
    space: PruningSpace, executor: Executor, seed: int, *, sampler: str = "random", folder: Path | None = None
) -> Search:
    storage = None if folder is None else journal(RunFolder(folder).journal)
    return Search(
        open_study(storage, "bench", _OBJECTIVES),
        space,
        executor,
        objectives=_OBJECTIVES,
        budget=Budget.parse({}),
        sampler=sampler,
        options={},
        seed=seed,
        ladder=[],
        dense={"error": 0.0, "error_se": 0.0, "loss": 0.0},
    )


def _stamps(search: Search, count: int) -> list[float]:
    """Return when each of so many further evaluations was recorded, in seconds."""
    stamps: list[float] = []
    search.run(len(search.records) + count, on_record=lambda records: stamps.append(time.perf_counter()))
    return stamps


def _further(search: Search, count: int) -> None:
    search.run(len(search.records) + count)
