"""A run: a folder below results/ that one command fills, continues and answers from."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from explorer.runs.baselines import evaluate_baselines, missing_baselines
from explorer.runs.config import Config, default_name, differences, identity
from explorer.runs.final import missing_final, retrain_frontier
from explorer.runs.outcome import show_outcome, write_outcome, write_pareto
from explorer.search.executors import check_installed, make_executor, worker_threads
from explorer.search.storage import journal, open_study, redacted, shared_storage
from explorer.search.storage.storages import driving
from explorer.utils.console import console, progress
from explorer.utils.files import atomic
from spaces import PruningError

if TYPE_CHECKING:
    from explorer.search.history import Record
    from explorer.search.jobs import Executor
    from explorer.search.samplers import Observations
    from explorer.search.search import Search
    from explorer.study import Study

# torch and what needs it are imported inside: a finished run is answered without them

__all__ = ["execute"]

log = logging.getLogger("explorer")


def execute(config: Config, root: Path) -> Path:
    """Make the run that a configuration describes, or what is left of it, and return its folder.

    A finished run is answered from its files, and only baselines that it lacks are evaluated. On Ctrl-C and at the
    timeout, tables and plots of what there is are written.

    Parameters
    ----------
    config
        A validated configuration.
    root
        The folder that holds the run's folder.

    Raises
    ------
    PruningError
        On any mistake in the configuration; if the folder holds another configuration, or another process
        drives it.
    KeyboardInterrupt
        After the tables are written.
    """
    folder = root / default_name(config)
    _refuse_other(folder, config)
    summary = _summary(folder)
    # at a timeout recipes may wait for further rungs
    left = summary is None or summary["ended"] in ("interrupted", "timeout")
    enough = summary is not None and summary["trials"] >= config["trials"] and not left
    finished = summary is not None and (enough or summary["ended"] == "exhausted")
    if summary is not None and finished and not missing_baselines(folder, config) and not missing_final(folder, config):
        console.print(f"[bold]{folder}[/bold] is finished: {summary['trials']} trials", soft_wrap=True)
        show_outcome(folder)
        return folder
    check_installed(config["executor"])
    if folder.exists():
        # before anything long is loaded
        with driving(folder):
            pass
    with _early_log() as early:
        return _Run(config, folder).drive(early, finished=finished)


class _Run:
    """One process's work on one run's folder."""

    def __init__(self, config: Config, folder: Path) -> None:
        from explorer.runs.setup import Setup

        self.config, self.folder = config, folder
        url = config["storage"]["url"]
        # opened first: a mistake in it costs no training
        self.storage = None if url is None else shared_storage(url)
        epochs = config["training"]["epochs"]
        shared = config["supernet"]["epochs"]
        with progress("training the dense network", epochs) as show, progress("sharing its weights", shared) as share:
            self.setup = Setup(
                config,
                on_epoch=lambda e: show(e.number, f"loss {e.loss:.3f}"),
                on_shared_epoch=lambda e: share(e.number, f"loss {e.loss:.3f}"),
            )
            self.problem = self.setup.problem(folder)

    def drive(self, early: MemoryHandler, *, finished: bool) -> Path:
        """Search, write everything, evaluate baselines; return the folder.

        `early` holds what was logged before the folder was there; a `finished` run lacks baselines or retrained points.
        """
        from explorer.study import Study

        config = self.config
        # a finished run needs no workers
        section = {"name": "inline"} if finished else config["executor"]
        logged = _logging_to(self.folder / "run.log", early)
        with driving(self.folder), logged, _interruptible(), self._executor(section) as executor:
            self._write_config()
            storage = self.storage or journal(self.folder / "study.journal")
            search = self.problem.search(
                open_study(storage, self.folder.name, config["objectives"], identity=self._identity()),
                sampler=config["sampler"]["name"],
                options=config["sampler"]["options"],
                seed=config["seed"],
                ladder=config["ladder"],
                executor=executor,
                eta=config["evaluator"].get("eta", 3),
                warm_start=self._warm_start(),
                shared=self.storage is not None,
            )
            log.info("%s: %d of %d trials are there", self.folder, len(search.records), config["trials"])
            console.print(
                f"{self.folder}: {len(search.records)} of {config['trials']} trials are there", soft_wrap=True
            )
            for doubt in self._doubts():
                log.warning(doubt)
                console.print(f"[bold]warning[/bold]: {doubt}", soft_wrap=True)
            for name, reason in self.problem.space.skipped:
                log.info("skipped by the space: %s (%s)", name, reason)
            try:
                ended = "finished" if finished else self._search(search)
                # at the timeout no further evaluation begins
                if ended != "timeout":
                    self._baselines(Study(self.problem, search.records))
                    self._final(Study(self.problem, search.records))
            finally:
                if search.records:
                    show_outcome(self.folder)
        return self.folder

    def _doubts(self) -> list[str]:
        from explorer.search.rungs import doubt

        rungs, eta = len(self.problem.evaluate.rungs), self.config["evaluator"].get("eta", 3)
        doubts = [self.problem.doubt(), doubt(self.config["trials"], rungs, eta)]
        return [sentence for sentence in doubts if sentence is not None]

    @contextmanager
    def _executor(self, section: Mapping[str, Any]) -> Iterator[Executor]:
        folder, device = self.folder / "workers", str(self.setup.device)
        executor = make_executor(section, self.problem.evaluate, folder=folder, device=device)
        try:
            yield executor
        finally:
            executor.close()
            with suppress(OSError):
                # workers that had something to say left their logs
                folder.rmdir()

    def _search(self, search: Search) -> str:
        """Search, and write what was found however it ends; return why it ended."""
        from explorer.study import Study

        begin, ended, trials = time.monotonic(), "interrupted", self.config["trials"]
        try:
            with progress("exploring", trials, len(search.records)) as show:
                ended = search.run(
                    trials,
                    timeout=self.config["timeout"],
                    on_record=lambda records: show(len(records), self._remark(records)),
                )
        finally:
            log.info("%d trials, ended after %.3g s: %s", len(search.records), time.monotonic() - begin, ended)
            self._write(Study(self.problem, search.records), ended)
        return ended

    def _baselines(self, study: Study) -> None:
        """Evaluate the baselines that are not there, and draw them."""
        if missing_baselines(self.folder, self.config):
            try:
                evaluate_baselines(self.folder, self.config, self.problem)
            finally:
                write_pareto(self.folder, self.config, study)

    def _final(self, study: Study) -> None:
        """Retrain frontier points, and forget what candidates were trained to but for the frontier."""
        self.problem.evaluate.tidy(self.problem.space.recipe(study.records[i].row) for i in study.frontier["trial"])
        if missing_final(self.folder, self.config):
            finetuned = self.setup.finetuned(self.problem.evaluator, (self.config["final"]["epochs"],), None)
            retrain_frontier(self.folder, self.config, study, finetuned, list(self.setup.batches("test")))

    def _warm_start(self) -> Observations:
        """Return what the sampler may begin with."""
        from explorer.runs.warm_start import earlier_runs

        space, data = self.problem.space, self.setup.data.identity
        return earlier_runs(
            [Path(folder) for folder in self.config["sampler"].get("warm_start", [])],
            space,
            self.config["objectives"],
            identity=identity(self.config),
            network=space.network.identity,
            data=data,
        )

    def _identity(self) -> str:
        """Return a hash of all that the study's values depend on."""
        network, data = self.problem.space.network.identity, self.setup.data.identity
        text = json.dumps([identity(self.config), network, data], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _remark(self, records: list[Record]) -> str:
        from explorer.search.frontier import hypervolume

        inputs = [record.metrics.get("validation_inputs", 0.0) for record in records]
        # as the frontier, of what saw all of them
        pairs = zip(records, inputs, strict=True)
        values = [record.values for record, seen in pairs if record.values is not None and seen == max(inputs)]
        volume = hypervolume(values, self.problem.scale.reference)
        # none where all so far were over a limit on the latency
        failed = f", failed: {records[-1].reason}" if records and records[-1].values is None else ""
        return f"hypervolume {volume:.4f}{failed}"

    def _write_config(self) -> None:
        import torch

        config = self.config | {"name": self.folder.name}
        if config["storage"]["url"] is not None:
            config["storage"] = config["storage"] | {"url": redacted(config["storage"]["url"])}
        facts = {
            "data_identity": self.setup.data.identity,
            "network": self.problem.space.network.identity,
            "model_arguments": self.setup.arguments,
            "mean": list(self.setup.mean),
            "std": list(self.setup.std),
            "hypervolume_reference": dict(zip(config["objectives"], self.problem.scale.reference, strict=True)),
            "threads": worker_threads(config["executor"], str(self.setup.device)) or torch.get_num_threads(),
            "torch": str(torch.__version__),
            "machine": platform.machine(),
        }
        path = self.folder / "config.yaml"
        if path.exists():
            stored = yaml.safe_load(path.read_text())["facts"]
            lines = differences(
                {k: stored[k] for k in ("data_identity", "network")},
                {k: facts[k] for k in ("data_identity", "network")},
            )
            if lines:
                raise PruningError(
                    f"name: {str(self.folder)!r} holds a run on other data or another network ({lines[0]})"
                )
        # through JSON, so that the file repeats shared values instead of referring to them
        record = json.loads(json.dumps(config | {"identity": identity(self.config), "facts": facts}, default=str))
        with atomic(path) as temporary:
            temporary.write_text(yaml.safe_dump(record, sort_keys=False))
        with atomic(self.folder / "network.yaml") as temporary:
            self.problem.space.network.save(temporary)

    def _write(self, study: Study, ended: str) -> None:
        """Write everything, then measure what is measured once, at the end, and write it again with that."""
        front, dense = study.frontier, dict(self.problem.dense)
        if ended == "interrupted":
            write_outcome(self.folder, self.config, study, front, dense, ended)
            return
        # a second Ctrl-C during the measurements leaves these
        write_outcome(self.folder, self.config, study, front, dense, "interrupted")
        front = self._with_latency(study, front)
        evaluator = self.problem.evaluator
        dense["test_error"] = evaluator.task.evaluate(evaluator.model, list(self.setup.batches("test"))).error
        write_outcome(self.folder, self.config, study, front, dense, ended)

    def _with_latency(self, study: Study, front: pd.DataFrame) -> pd.DataFrame:
        measured = []
        with progress("latency of the frontier", len(front)) as show:
            for i, trial in enumerate(front["trial"]):
                recipe = self.problem.space.recipe(study.records[trial].row)
                measured.append(self.problem.evaluator.timings(recipe))
                show(i + 1, "")
        columns = pd.DataFrame(measured, index=front.index)
        # where latency was an objective or a budget, what it was then stays
        return pd.concat([front, columns.drop(columns=front.columns, errors="ignore")], axis=1)


def _summary(folder: Path) -> dict[str, Any] | None:
    try:
        return json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return None


def _refuse_other(folder: Path, config: Config) -> None:
    """Raise if the folder holds a run of another configuration."""
    try:
        stored = yaml.safe_load((folder / "config.yaml").read_text())
    except OSError:
        return
    lines = differences(stored["identity"], json.loads(json.dumps(identity(config), default=str)))
    if lines:
        raise PruningError(f"name: {str(folder)!r} holds another configuration ({'; '.join(lines[:3])})")
    url = config["storage"]["url"]
    kept, given = stored["storage"]["url"], None if url is None else redacted(url)
    if kept != given:
        raise PruningError(
            f"storage.url: the study of {str(folder)!r} is in {kept or 'its journal'}, not in {given or 'a journal'}"
        )


@contextmanager
def _early_log() -> Iterator[MemoryHandler]:
    """Keep what is logged until there is a folder to log to."""
    handler = MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield handler
    finally:
        log.removeHandler(handler)


@contextmanager
def _logging_to(path: Path, early: MemoryHandler) -> Iterator[None]:
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    early.setTarget(handler)
    early.flush()
    log.removeHandler(early)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a termination signal end the run as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:
        # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
