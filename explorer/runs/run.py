"""A run: a folder below results/ that one command fills, continues and answers from."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from explorer.analysis.run_folder import RunFolder
from explorer.runs.baselines import evaluate_baselines, missing_baselines
from explorer.runs.config import RunConfig
from explorer.runs.final import missing_final, retrain_frontier
from explorer.runs.identity import differences
from explorer.runs.latency import other_runtime, with_latency
from explorer.runs.logs import early_log, interruptible, logging_to, steps_shown
from explorer.runs.outcome import notes_of, show_outcome, write_outcome, write_pareto, write_sensitivity
from explorer.runs.proxies import missing_proxies, write_proxies
from explorer.runs.surroundings import hardware, versions
from explorer.runs.tracking import track
from explorer.search.executors import check_installed, worker_threads
from explorer.utils.console import Told, console, progress
from spaces import PruningError

if TYPE_CHECKING:
    from explorer.search.jobs import Executor
    from explorer.search.plan import Plan
    from explorer.search.search import Search
    from explorer.study import Study

# torch, optuna and what needs them are imported inside: a finished run is answered without them

__all__ = ["execute"]

log = logging.getLogger("explorer")


def execute(config: RunConfig, root: Path) -> Path:
    """Make the run that a configuration describes, or what is left of it, and return its folder.

    A finished run is answered from its files, and only baselines that it lacks are evaluated. On Ctrl-C and at the
    timeout, tables and plots of what there is are written.

    Parameters
    ----------
    config
        Of the run.
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
    folder = RunFolder(root / config.name)
    _refuse_other(folder, config)
    summary = folder.summary()
    # at a timeout recipes may wait for further rungs
    left = summary is None or summary["ended"] in ("interrupted", "timeout")
    enough = summary is not None and summary["trials"] >= config.plan.trials and not left
    # a file that is not there or damaged is made again
    finished = summary is not None and (enough or summary["ended"] == "exhausted") and not folder.damaged()
    whole = finished and not missing_baselines(folder, config.baselines)
    whole = whole and not missing_proxies(folder, asked=config.proxies)
    whole = whole and not other_runtime(folder, config.timing)
    if summary is not None and whole and not missing_final(folder, config.final, bounded=config.bounded):
        console.print(f"[bold]{folder}[/bold] is finished: {summary['trials']} trials", soft_wrap=True)
        show_outcome(folder, drawn=config.plan.drawing is not None)
        track(folder, config.tracker)
        return folder.path
    check_installed(config.executor)
    if folder.there:
        # before anything long is loaded
        with folder.lock():
            pass
    with early_log() as early, steps_shown():
        return _Run(config, folder).drive(early, finished=finished)


class _Run:
    """One process's work on one run's folder."""

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        from explorer.runs.setup import Setup
        from explorer.search.storage import shared_storage

        self.config, self.folder = config, folder
        url = config.storage.url
        # opened first: a mistake in it costs no training
        self.storage = None if url is None else shared_storage(url)
        epochs, shared = config.training.epochs, config.supernet.epochs
        with progress("training the dense network", epochs) as show, progress("sharing its weights", shared) as share:
            self.setup = Setup(
                config,
                on_epoch=lambda e: show(e.number, f"loss {e.loss:.3f}"),
                on_shared_epoch=lambda e: share(e.number, f"loss {e.loss:.3f}"),
            )
            self.problem = self.setup.problem(folder.checkpoints)
        if config.timing.seconds != 0:
            self.problem.meter.check_runtime()

    def drive(self, early: MemoryHandler, *, finished: bool) -> Path:
        """Search, write everything, evaluate baselines; return the folder.

        `early` holds what was logged before the folder was there; a `finished` run lacks baselines or retrained points.
        """
        from explorer.search.storage import journal, open_study, write_notes
        from explorer.study import Study

        # a finished run needs no workers
        section = {"name": "inline"} if finished else self.config.executor
        logged = logging_to(self.folder.log, early)
        with self.folder.lock(), logged, interruptible(), self._executor(section) as executor:
            storage = self.storage or journal(self.folder.journal)
            plan = self._plan()
            # refuses a study of another configuration, where that is no longer in its file
            study = open_study(storage, self.folder.name, plan.objectives, identity=self._identity())
            self._write_config()
            search = self.problem.search(study, plan, executor=executor, shared=self.storage is not None)
            self._say(plan, len(search.records))
            ended = ""
            try:
                ended = "finished" if finished else self._search(search, plan)
                if not finished:
                    write_notes(study, notes_of(self.folder, Study(self.problem, search.records)))
                if finished and other_runtime(self.folder, self.config.timing):
                    summary = self.folder.summary()
                    self._write(Study(self.problem, search.records), ended if summary is None else summary["ended"])
                # at the timeout no further evaluation begins
                if ended != "timeout":
                    self._baselines(Study(self.problem, search.records))
                    self._final(Study(self.problem, search.records))
                    self._proxies(Study(self.problem, search.records))
            finally:
                # one without any says that the same command goes on
                if search.records or ended == "timeout":
                    show_outcome(self.folder, drawn=plan.drawing is not None)
                    track(self.folder, self.config.tracker)
        return self.folder.path

    def _plan(self) -> Plan:
        """Return the plan, with what other runs measured that the sampler begins with."""
        from explorer.runs.warm_start import measured_before

        plan = self.config.plan
        earlier = measured_before(
            self.config.warm_start,
            self.problem.space,
            plan.objectives,
            identity=self.config.identity,
            network=self.problem.space.network.identity,
            data=self.setup.data.identity,
        )
        return replace(plan, warm_start=earlier)

    def _say(self, plan: Plan, there: int) -> None:
        log.info("%s: %d of %d trials are there", self.folder, there, plan.trials)
        console.print(f"{self.folder}: {there} of {plan.trials} trials are there", soft_wrap=True)
        for doubt in self._doubts():
            log.warning(doubt)
            console.print(f"[bold]warning[/bold]: {doubt}", soft_wrap=True)
        for name, reason in self.problem.space.skipped:
            log.info("skipped by the space: %s (%s)", name, reason)

    def _doubts(self) -> list[str]:
        """Return sentences on what makes the run's numbers doubtful; none for most."""
        weights = self.config.model.source
        seen = f"model.weights: {weights} may have seen the validation inputs; errors on them are then too low"
        return [*self.problem.doubts(self.config.plan), *([] if weights is None else [seen])]

    @contextmanager
    def _executor(self, section: Mapping[str, Any]) -> Iterator[Executor]:
        from explorer.search.executors import make_executor

        folder, device = self.folder.workers, str(self.setup.device)
        executor = make_executor(section, self.problem.evaluator, folder=folder, device=device)
        try:
            yield executor
        finally:
            executor.close()
            with suppress(OSError):
                # workers that had something to say left their logs
                folder.rmdir()

    def _search(self, search: Search, plan: Plan) -> str:
        """Search, and write what was found however it ends; return why it ended."""
        from explorer.study import Study

        begin, ended = time.monotonic(), "interrupted"
        try:
            with progress("exploring", plan.trials, len(search.records)) as show:
                ended = search.run(
                    plan.trials,
                    timeout=plan.timeout,
                    on_record=lambda records: show(len(records), self.problem.remark(records)),
                )
        finally:
            log.info("%d trials, ended after %.3g s: %s", len(search.records), time.monotonic() - begin, ended)
            self._write(Study(self.problem, search.records), ended)
        return ended

    def _baselines(self, study: Study) -> None:
        """Evaluate the baselines that are not there, and draw them."""
        asked = self.config.baselines
        if missing_baselines(self.folder, asked):
            try:
                evaluate_baselines(self.folder, asked, self.problem)
            finally:
                write_pareto(self.folder, study, title=self._title(study), doubts=self._doubts())
                write_sensitivity(self.folder, study)

    def _proxies(self, study: Study) -> None:
        """Score a population's recipes cheaply."""
        if missing_proxies(self.folder, asked=self.config.proxies):
            write_proxies(self.folder, study)

    def _final(self, study: Study) -> None:
        """Retrain frontier points, and forget what candidates were trained to but for the frontier."""
        self.problem.evaluator.tidy(self.problem.space.recipe(study.records[i].row) for i in study.frontier["trial"])
        asked = self.config.final
        if missing_final(self.folder, asked, bounded=self.config.bounded):
            finetuned = self.setup.finetuned(self.problem.inherited, (asked.epochs,), None)
            test = list(self.setup.batches("test"))
            retrain_frontier(self.folder, asked, study, finetuned, test, bounded=self.config.bounded)

    def _identity(self) -> str:
        """Return a hash of all that the study's values depend on."""
        network, data = self.problem.space.network.identity, self.setup.data.identity
        text = json.dumps([self.config.identity, network, data], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _write_config(self) -> None:
        import torch

        from explorer.search.storage import redacted

        given, objectives = self.config.given | {"name": self.folder.name}, self.config.plan.objectives
        if self.config.storage.url is not None:
            given["storage"] = given["storage"] | {"url": redacted(self.config.storage.url)}
        facts = {
            "data_identity": self.setup.data.identity,
            "network": self.problem.space.network.identity,
            "model_arguments": self.setup.arguments,
            "mean": list(self.setup.mean),
            "std": list(self.setup.std),
            "hypervolume_reference": dict(zip(objectives, self.problem.scale.reference, strict=True)),
            "threads": worker_threads(self.config.executor, str(self.setup.device)) or torch.get_num_threads(),
            "torch": str(torch.__version__),
            "versions": versions(),
            "hardware": hardware(self.setup.device),
            "machine": platform.machine(),
        }
        if (there := self.folder.config()) is not None:
            stored, same = there["facts"], ("data_identity", "network")
            if lines := differences({key: stored[key] for key in same}, {key: facts[key] for key in same}):
                raise PruningError(
                    f"name: {str(self.folder)!r} holds a run on other data or another network ({lines[0]})"
                )
        self.folder.write_config(given | {"identity": self.config.identity, "facts": facts})
        self.folder.write_network(self.problem.space.network)

    def _write(self, study: Study, ended: str) -> None:
        """Write everything, then measure what is measured once, at the end, and write it again with that."""
        front, dense = study.frontier, dict(self.problem.dense)
        write = partial(write_outcome, self.folder, study, title=self._title(study), doubts=self._doubts())
        if ended == "interrupted":
            write(front, dense, ended=ended)
            return
        # should the process be killed during the measurements
        write(front, dense, ended="interrupted", drawn=False)
        try:
            front = with_latency(study, front, self.config.timing)
            meter = self.problem.meter
            test = meter.task.evaluate(meter.model, Told("dense network on test", list(self.setup.batches("test"))))
        except BaseException:
            # a second Ctrl-C among others
            write(front, dense, ended="interrupted")
            raise
        dense |= {"test_error": test.error, "test_error_se": test.error_se} | meter.task.viewed(test, "test_")
        write(front, dense, ended=ended, runtime=self.config.timing.runtime)

    def _title(self, study: Study) -> str:
        """Return the title of the plots."""
        return f"{self.config.title}, {len(study.records)} trials"


def _refuse_other(folder: RunFolder, config: RunConfig) -> None:
    """Raise if the folder holds a run of another configuration."""
    if (stored := folder.config()) is None:
        # the study itself says whose it is
        return
    lines = differences(stored["identity"], json.loads(json.dumps(config.identity, default=str)))
    if lines:
        raise PruningError(f"name: {str(folder)!r} holds another configuration ({'; '.join(lines[:3])})")
    kept, url = stored["storage"]["url"], config.storage.url
    given = url
    if url is not None:
        from explorer.search.storage import redacted

        given = redacted(url)
    if kept != given:
        raise PruningError(
            f"storage.url: the study of {str(folder)!r} is in {kept or 'its journal'}, not in {given or 'a journal'}"
        )
