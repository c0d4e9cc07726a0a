"""Trials: a search's dealings with its Optuna study, on which other drivers may work at the same time."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from explorer.driver import Driver
from explorer.samplers import Parameters

__all__ = ["Claim", "Proposal", "Trials"]

Claim = tuple[bytes, int]
"""A row and the rung it is evaluated at: what no two trials do."""

Proposal = Mapping[str, Any]
"""What a finished trial keeps of its recipe and of what came of it."""

_POLL = 0.02


class Trials:
    """The trials of a study.

    A trial belongs to a driver from the moment it is there. Its *claim* is written once its recipe is known, its
    *proposal*, with all that came of it, in one write before it is told: an outcome is either known completely or was
    never reached. A trial of a dead driver is told from its proposal, or abandoned.

    Parameters
    ----------
    study
        The study.
    parameters
        How rows are spelled in it.
    """

    def __init__(self, study: optuna.Study, parameters: Parameters) -> None:
        self._study = study
        self.parameters = parameters
        self._driver = Driver(study)
        # trials before this one are finished and known
        self._read = 0
        self._known: set[int] = set()
        self._abandoned: list[int] = []
        # of this driver, with what the storage calls them
        self._open: dict[int, int] = {}
        # of all drivers; None while a trial has not said what it claims
        self._running: dict[int, Claim | None] = {}

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Say that this process drives the study, and abandon what it has not finished at the end."""
        with Driver(self._study) as self._driver:
            try:
                yield
            finally:
                for number in list(self._open):
                    # said now, while this process still can; another driver notices otherwise
                    with suppress(Exception):
                        self.abandon(number)

    @property
    def running(self) -> Mapping[int, Claim | None]:
        """The trials that are under evaluation, of all drivers, by number; None where a claim was not said yet."""
        return self._running

    def sync(self) -> list[tuple[int, Proposal]]:
        """Return the proposals that other drivers finished since, by trial, after settling those of dead ones."""
        finished = []
        trials = self._study.get_trials(deepcopy=False)
        for trial in trials[self._read :]:
            number = trial.number
            if number in self._known or number in self._open:
                continue
            if trial.state == TrialState.RUNNING:
                driver = trial.user_attrs.get("driver")
                if driver is None:
                    # somebody else's
                    continue
                if driver != self._driver.identity and not self._driver.is_dead(driver):
                    self._running[number] = _claim(trial)
                    continue
                self._settle(trial)
            self._running.pop(number, None)
            if trial.state == TrialState.WAITING:
                continue
            self._known.add(number)
            proposal = trial.user_attrs.get("proposal")
            if proposal is not None and not trial.user_attrs.get("interrupted"):
                finished.append((number, proposal))
            else:
                bisect.insort(self._abandoned, number)
        while self._read in self._known:
            self._known.discard(self._read)
            self._read += 1
        return finished

    def _settle(self, trial: FrozenTrial) -> None:
        """Finish a trial that nobody works on; other drivers may do the same."""
        with suppress(UpdateFinishedTrialError, RuntimeError):
            if "proposal" in trial.user_attrs:
                proposal = trial.user_attrs["proposal"]
                self._study.tell(
                    trial.number, proposal["values"], state=TrialState[proposal["state"]], skip_if_finished=True
                )
            else:
                self._interrupt(trial.number, trial._trial_id)

    def _interrupt(self, number: int, identifier: int) -> None:
        self._study._storage.set_trial_user_attr(identifier, "interrupted", True)
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def open(self, source: str, rung: int = 0, row: npt.NDArray[np.int16] | None = None) -> int:
        """Create a trial of this driver and return its number.

        Parameters
        ----------
        source
            Who proposes it.
        rung
            Where it is evaluated.
        row
            Its recipe, for one that no sampler has to know of; else `suggest` gives it one.
        """
        attributes: dict[str, Any] = {"driver": self._driver.identity, "source": source, "rung": rung}
        params: dict[str, Any] = {}
        if row is not None:
            attributes["claim"] = row.tolist()
            params = self.parameters.of(row)
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=self.parameters.distributions if params else {},
            user_attrs=attributes,
        )
        storage = self._study._storage
        identifier = storage.create_new_trial(self._study._study_id, template)
        number = storage.get_trial_number_from_id(identifier)
        self._running[number] = None if row is None else (row.tobytes(), rung)
        self._open[number] = identifier
        return number

    def rank(self, number: int) -> int:
        """Return how many trials came before that were not abandoned."""
        return number - bisect.bisect_left(self._abandoned, number)

    def suggest(self, number: int, sampler: BaseSampler) -> npt.NDArray[np.int16]:
        """Let a sampler say an open trial's recipe for the first rung, claim it and return its row."""
        self._study.sampler = sampler
        trial = optuna.Trial(self._study, self._open[number])
        for name, distribution in self.parameters.distributions.items():
            trial._suggest(name, distribution)
        row = self.parameters.row(trial.params)
        trial.set_user_attr("claim", row.tolist())
        self._running[number] = (row.tobytes(), 0)
        return row

    def before(self, number: int, sync: Callable[[], None]) -> None:
        """Wait until all earlier trials have said what they claim; `sync` is called until then.

        Of two drivers that propose the same, each sees at least one claim of the other's if the earlier trial's is
        waited for: the earlier one has it.
        """
        while any(claim is None and other < number for other, claim in self._running.items()):
            time.sleep(_POLL)
            sync()

    def finish(self, number: int, proposal: Proposal, excess: Mapping[str, float]) -> None:
        """Write what came of an open trial, and tell the study.

        Parameters
        ----------
        number
            The trial's.
        proposal
            What it keeps.
        excess
            By how much it lies outside the limits, relative to the dense network, by metric.
        """
        identifier = self._open[number]
        trial = optuna.Trial(self._study, identifier)
        for metric, value in excess.items():
            trial.set_constraint(metric, value)
        trial.set_user_attr("proposal", dict(proposal))
        # from here on it can only be told
        del self._open[number]
        self._study.tell(trial, proposal["values"], state=TrialState[proposal["state"]], skip_if_finished=True)
        self._ended(number)

    def abandon(self, number: int) -> None:
        """Fail an open trial whose evaluation did not end; its recipe counts as never proposed."""
        self._interrupt(number, self._open[number])
        del self._open[number]
        self._ended(number)
        bisect.insort(self._abandoned, number)

    def _ended(self, number: int) -> None:
        self._running.pop(number, None)
        self._known.add(number)


def _claim(trial: FrozenTrial) -> Claim | None:
    row = trial.user_attrs.get("claim")
    return None if row is None else (np.array(row, dtype=np.int16).tobytes(), trial.user_attrs["rung"])
