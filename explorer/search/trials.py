"""Trials: a search's dealings with its Optuna study, on which other drivers may work at the same time."""

from __future__ import annotations

import bisect
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from explorer.search.optuna_private import storage_id, storage_of, study_id
from explorer.search.proposal import Proposal
from explorer.search.samplers import Parameters, ask
from explorer.search.storage.driver import Driver

__all__ = ["Claim", "Trials"]

log = logging.getLogger("explorer")

Claim = tuple[bytes, int]
"""A row and the rung it is evaluated at: what no two trials do."""

Row = npt.NDArray[np.int16]


class Trials:
    """The trials of a study.

    A trial is there with its driver and its *claim* in one write; its *proposal*, with all that came of it, is another,
    before it is told: an outcome is either known completely or was never reached. A trial of a dead driver is told from
    its proposal, or abandoned.

    Parameters
    ----------
    study
        The study.
    parameters
        How rows are spelled in it.
    shared
        Whether there may be other drivers; what they do has to be read again and again.
    """

    def __init__(self, study: optuna.Study, parameters: Parameters, *, shared: bool = True) -> None:
        self._study, self._storage = study, storage_of(study)
        self._shared = shared
        self._synced = False
        self.parameters = parameters
        self._driver = Driver(study)
        # trials before this one are finished and known
        self._read = 0
        self._known: set[int] = set()
        self._abandoned: list[int] = []
        # of this driver, with what the storage calls them
        self._open: dict[int, int] = {}
        # of all drivers
        self._running: dict[int, Claim] = {}
        self._count = 0

    @contextmanager
    def driven(self) -> Iterator[None]:
        """Say that this process drives the study, and abandon its unfinished trials at the end."""
        with Driver(self._study) as self._driver:
            try:
                yield
            finally:
                for number in list(self._open):
                    # said now, while this process still can; another driver notices otherwise
                    with suppress(Exception):
                        self._let_go(number)
                # what is left may be known better by the storage
                self._synced = False

    @property
    def running(self) -> Mapping[int, Claim]:
        """The trials that are under evaluation, of all drivers, by number."""
        return self._running

    def sync(self) -> list[tuple[int, Proposal]]:
        """Return the proposals that other drivers finished since, by trial, after settling those of dead ones."""
        if self._synced and not self._shared:
            return []
        self._synced, finished = True, []
        trials = self._study.get_trials(deepcopy=False)
        self._count = len(trials)
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
                # what it wrote between that reading and its death
                trial = self._storage.get_trial(storage_id(trial))
                self._settle(trial)
            self._running.pop(number, None)
            if trial.state == TrialState.WAITING:
                continue
            self._known.add(number)
            stored = trial.user_attrs.get("proposal")
            if stored is not None and not trial.user_attrs.get("interrupted"):
                finished.append((number, Proposal.of(stored)))
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
                self._tell(trial.number, Proposal.of(trial.user_attrs["proposal"]))
            else:
                self._interrupt(trial.number, storage_id(trial))

    def _let_go(self, number: int) -> None:
        """Finish an open trial, from its proposal if the storage holds one that was written and not told."""
        self._settle(self._storage.get_trial(self._open[number]))
        del self._open[number]
        del self._running[number]

    def _tell(self, number: int, proposal: Proposal) -> None:
        self._study.tell(number, proposal.values, state=TrialState[proposal.state], skip_if_finished=True)

    def _interrupt(self, number: int, identifier: int) -> None:
        self._storage.set_trial_user_attr(identifier, "interrupted", True)
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    @property
    def count(self) -> int:
        """How many trials there are that were not abandoned."""
        return self._count - len(self._abandoned)

    def propose(self, sampler: BaseSampler) -> tuple[Row, dict[str, Any]]:
        """Return the row that a sampler proposes for the next trial, and the attributes that it keeps there."""
        params, kept = ask(self._study, sampler, self.parameters.distributions, self._count)
        return self.parameters.row(params), kept

    def open(self, row: Row, source: str, rung: int = 0, kept: Mapping[str, Any] | None = None) -> int:
        """Create a trial of this driver in one write, and return its number.

        Of two drivers that claim the same, both see it in the storage afterwards: the earlier trial has it.

        Parameters
        ----------
        row
            Its recipe.
        source
            Who proposes it.
        rung
            Where it is evaluated.
        kept
            Attributes that its sampler keeps with it.
        """
        attributes = {"driver": self._driver.identity, "source": source, "rung": rung, "claim": row.tolist()}
        # for readers such as optuna-dashboard: parameters are the places of choices, and these are their ratios
        attributes["recipe"] = self.parameters.space.recipe(row).to_dict()
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=self.parameters.of(row),
            distributions=self.parameters.distributions,
            user_attrs=attributes,
            system_attrs=dict(kept or {}),
        )
        identifier = self._storage.create_new_trial(study_id(self._study), template)
        number = self._storage.get_trial_number_from_id(identifier)
        self._running[number] = row.tobytes(), rung
        self._open[number] = identifier
        self._count = max(self._count, number + 1)
        return number

    def finish(self, number: int, proposal: Proposal) -> bool:
        """Write the proposal of an open trial with its outcome, and tell the study; return whether it counts.

        It does not where other drivers took this one for dead, as after a machine was suspended: they do it again.

        Parameters
        ----------
        number
            The trial's.
        proposal
            Of the trial, with its outcome.
        """
        identifier = self._open[number]
        try:
            if proposal.excess:
                trial = optuna.Trial(self._study, identifier)
                for metric, value in proposal.excess.items():
                    trial.set_constraint(metric, value)
            self._storage.set_trial_user_attr(identifier, "proposal", proposal.to_dict())
        except UpdateFinishedTrialError:
            del self._open[number]
            self._ended(number)
            bisect.insort(self._abandoned, number)
            return False
        # from here on it can only be told
        del self._open[number]
        self._tell(number, proposal)
        self._ended(number)
        return True

    def abandon(self, number: int) -> None:
        """Fail an open trial whose evaluation did not end; its recipe counts as never proposed."""
        self._interrupt(number, self._open[number])
        del self._open[number]
        self._ended(number)
        bisect.insort(self._abandoned, number)

    def _ended(self, number: int) -> None:
        self._running.pop(number, None)
        self._known.add(number)


def _claim(trial: FrozenTrial) -> Claim:
    return np.array(trial.user_attrs["claim"], dtype=np.int16).tobytes(), trial.user_attrs["rung"]
