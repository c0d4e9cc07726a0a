"""Reconnecting: a storage that outlives a restart of its server."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from datetime import datetime
from typing import Any, TypeVar

from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from explorer.search.optuna_private import storage_id
from explorer.utils.console import console
from spaces import PruningError

__all__ = ["opened", "reconnecting"]

log = logging.getLogger("explorer")
Given = TypeVar("Given")

_PATIENCE = 300.0
_PAUSE = 5.0
_TOKEN = "created"
# Optuna repeats a creation by itself after a pause; none that was repeated is as fast as this
_SURELY_ONCE = 0.02
# what PostgreSQL, where it speaks English, answers while it restarts, and what is heard between these answers
_RESTARTS = r"the database system is|due to administrator command|server closed the connection unexpectedly"
_GONE = r"refused|No such file"
_REPEATABLE = sorted(
    {name for name in vars(BaseStorage) if name.startswith(("get_", "set_", "create_new_study"))}
    - {"set_trial_state_values"}
)


def reconnecting(storage: BaseStorage, *, patience: float = _PATIENCE) -> BaseStorage:
    """Return the storage itself, whose methods wait for a server that is gone and then try again.

    What was written just before the connection broke is not written twice: new trials carry a token by which they
    are found again, and a trial that is finished as it was to be is left alone.

    Parameters
    ----------
    storage
        Of a database or another server.
    patience
        Seconds after which a server is given up; the call raises `PruningError` then.
    """
    waiting = _Waiting(patience, _lost)
    create, finish = storage.create_new_trial, storage.set_trial_state_values

    def create_once(study: int, template_trial: FrozenTrial | None = None) -> int:
        token = secrets.token_hex(8)
        template = copy(template_trial) if template_trial is not None else _running()
        template.system_attrs = {**template.system_attrs, _TOKEN: token}
        begin = time.monotonic()
        found = waiting.repeat(
            lambda: create(study, template),
            lambda: next(_twins(storage, study, token), None) or create(study, template),
        )
        if time.monotonic() - begin > _SURELY_ONCE:
            for other in _twins(storage, study, token):
                if other != found:
                    storage.set_trial_user_attr(other, "interrupted", True)
                    storage.set_trial_state_values(other, TrialState.FAIL)
        return found

    def finish_once(trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        def again() -> bool:
            try:
                return finish(trial_id, state, values)
            except UpdateFinishedTrialError:
                trial = storage.get_trial(trial_id)
                if trial.state != state or (values is not None and trial.values != list(values)):
                    raise
                return True

        return waiting.repeat(lambda: finish(trial_id, state, values), again)

    changed: dict[str, Callable[..., Any]] = {name: waiting(getattr(storage, name)) for name in _REPEATABLE}
    for name, method in (changed | {"create_new_trial": create_once, "set_trial_state_values": finish_once}).items():
        # the class stays what it is, since Optuna looks at it
        setattr(storage, name, method)
    return storage


def opened(opening: Callable[[], Given], *, patience: float = _PATIENCE) -> Given:
    """Return the storage that `opening` opens, called again while its server says that it restarts.

    A server that is not there at all is a mistake and not waited for, unless it was seen to restart.

    Parameters
    ----------
    opening
        Opens a storage.
    patience
        Seconds after which a server is given up.

    Raises
    ------
    PruningError
        If the server restarts for longer than that.
    """
    seen = False

    def restarts(error: BaseException) -> bool:
        nonlocal seen
        said = _said(error)
        restarting = re.search(_RESTARTS, said) is not None
        seen = seen or restarting
        return restarting or (seen and re.search(_GONE, said) is not None)

    return _Waiting(patience, restarts).repeat(opening)


class _Waiting:
    """Repeats calls while a server is away, and says so once for all threads."""

    def __init__(self, patience: float, lost: Callable[[BaseException], bool]) -> None:
        self._patience = patience
        self._lost = lost
        self._away = False

    def __call__(self, method: Callable[..., Given]) -> Callable[..., Given]:
        return lambda *args, **kwargs: self.repeat(lambda: method(*args, **kwargs))

    def repeat(self, first: Callable[[], Given], again: Callable[[], Given] | None = None) -> Given:
        """Return the result of the first call, or of a later one where the connection was lost."""
        begin, pause, call = time.monotonic(), 0.1, first
        while True:
            try:
                given = call()
            except Exception as error:
                if not self._lost(error):
                    raise
                if time.monotonic() - begin > self._patience:
                    raise PruningError(
                        f"storage.url: no answer for {self._patience / 60:.0f} minutes ({type(error).__name__}); "
                        "once the storage is there again, the same command continues"
                    ) from error
                if not self._away and pause > 0.5:
                    self._say(f"the storage does not answer; trying again for {self._patience / 60:.0f} minutes", True)
            else:
                if self._away:
                    self._say("the storage answers again", False)
                return given
            call = again or first
            time.sleep(pause)
            pause = min(2 * pause, _PAUSE)

    def _say(self, line: str, away: bool) -> None:
        self._away = away
        log.warning(line)
        console.print(f"[bold]warning[/bold]: {line}")


def _twins(storage: BaseStorage, study: int, token: str) -> Iterator[int]:
    """Yield the trials that one creation made: one, or more where Optuna repeated it after a connection was lost."""
    for trial in storage.get_all_trials(study, deepcopy=False):
        if trial.system_attrs.get(_TOKEN) == token:
            yield storage_id(trial)


def _running() -> FrozenTrial:
    trial = create_trial(state=TrialState.RUNNING)
    trial.datetime_start = datetime.now()
    return trial


def _lost(error: BaseException | None) -> bool:
    """Tell whether an error, or its cause, is of the connection and not of the request."""
    if error is None:
        return False
    code = getattr(error, "code", None)
    if callable(code):
        # gRPC: the proxy is gone, or its own database
        details = str(getattr(error, "details", str)())
        return code().name == "UNAVAILABLE" or "OperationalError" in details or "during the commit" in details
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"OperationalError", "InterfaceError", "ConnectionError", "TimeoutError"}:
        local = type(getattr(error, "orig", error)).__module__ == "sqlite3"
        return not local or "locked" in str(error)
    return _lost(error.__cause__ or error.__context__)


def _said(error: BaseException | None) -> str:
    """Return the texts of an error and of its causes."""
    return "" if error is None else f"{error}\n{_said(error.__cause__ or error.__context__)}"
