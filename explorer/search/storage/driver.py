"""Driver: which processes drive a study, and which of them are dead."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import subprocess
import threading
import time
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import TracebackType

import optuna

from explorer.search.optuna_private import storage_of, study_id

__all__ = ["Driver"]

log = logging.getLogger("explorer")

_BEAT = 60.0
_UNCHANGED = 3
_RECENT = 2.0
_PREFIX = "driver:"
# host, process, when it started, random
_IDENTITY = re.compile(r"([^:\s]+):(\d+):([^:\s]+):([0-9a-f]+)")
# identities of this process that drive, since a process that lives may have ended its search
_driving: set[str] = set()


class Driver:
    """One search on a study: says that it lives while it is entered, and tells who does not.

    A driver of the same machine is dead once its process is; the time at which that started tells it from another
    one with its number. A driver of another machine is dead once the count it keeps in the study stood still for
    three minutes in which this driver could read it. No clocks of different machines are compared, and time in which
    the storage does not answer does not count. Other machines are judged while this driver is entered only.

    Parameters
    ----------
    study
        What is driven; its storage holds one short attribute for every driver.
    beat
        Seconds between two counts.

    Attributes
    ----------
    identity
        ``host:process:start:random``, kept with everything that this driver has in hand.

    Examples
    --------
    >>> study = optuna.create_study()
    >>> with Driver(study) as first, Driver(study) as second:
    ...     second.is_dead(first.identity)
    False
    >>> second.is_dead(first.identity)
    True
    """

    def __init__(self, study: optuna.Study, *, beat: float = _BEAT) -> None:
        start = _started(os.getpid()) or "unknown"
        self.identity = f"{_host()}:{os.getpid()}:{start}:{secrets.token_hex(4)}"
        self._storage, self._study = storage_of(study), study_id(study)
        self._beat, self._count = beat, 0
        self._still: dict[str, tuple[int | None, int]] = {}
        self._checked: dict[tuple[int, str], tuple[float, bool]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="driver", daemon=True)

    def __enter__(self) -> Driver:
        """Begin to beat.

        Raises
        ------
        RuntimeError
            If it was entered before.
        """
        self._read_and_count()
        _driving.add(self.identity)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and say so to drivers elsewhere."""
        self._ended.set()
        _driving.discard(self.identity)
        try:
            # None: nobody has to wait for this driver's silence
            self._storage.set_study_system_attr(self._study, _PREFIX + self.identity, None)
        except Exception as silent:
            log.warning("the end of this driver can't be told to others: %s", type(silent).__name__)

    def is_dead(self, identity: str | None) -> bool:
        """Tell whether a driver is surely gone; False for None and for what is no driver's identity."""
        found = _IDENTITY.fullmatch(identity or "")
        if identity is None or found is None or identity == self.identity:
            return False
        host, number, start, _ = found.groups()
        if host != _host():
            count, unchanged = self._still.get(identity, (0, 0))
            return count is None or unchanged >= _UNCHANGED
        if int(number) == os.getpid():
            return identity not in _driving
        return not self._runs(int(number), start)

    def _runs(self, number: int, start: str) -> bool:
        """Tell whether a process of this machine is there, as it was a moment ago if it was asked then."""
        checked, alive = self._checked.get((number, start), (-_RECENT, False))
        now = time.monotonic()
        if now - checked > _RECENT:
            alive = _started(number) == start
            self._checked[number, start] = now, alive
        return alive

    def _watch(self) -> None:
        while not self._ended.wait(self._beat):
            try:
                self._read_and_count()
            except Exception as error:
                # nobody is judged by what could not be read; the search itself meets what is wrong
                log.warning("the storage can't be told that this driver lives: %s", type(error).__name__)

    def _read_and_count(self) -> None:
        """Count on, and compare the others' counts with those seen before."""
        self._count += 1
        self._storage.set_study_system_attr(self._study, _PREFIX + self.identity, self._count)
        if self._ended.is_set():
            # the end was told while the count was written
            self._storage.set_study_system_attr(self._study, _PREFIX + self.identity, None)
        attributes = self._storage.get_study_system_attrs(self._study)
        counts = {key.removeprefix(_PREFIX): count for key, count in attributes.items() if key.startswith(_PREFIX)}
        before = self._still
        self._still = {
            identity: (count, before[identity][1] + 1 if before.get(identity, (0, 0))[0] == count else 0)
            for identity, count in counts.items()
        }


@cache
def _host() -> str:
    """Return a name of this machine since it was started; processes of another container are on another machine."""
    parts = [socket.gethostname()]
    for fact in (lambda: Path("/proc/sys/kernel/random/boot_id").read_text(), lambda: os.readlink("/proc/self/ns/pid")):
        try:
            parts.append(fact())
        except OSError:
            # not Linux: names of machines must do
            continue
    name = re.sub(r"[:\s]", "-", parts[0])
    return f"{name}/{sha256(''.join(parts).encode()).hexdigest()[:8]}"


def _started(number: int) -> str | None:
    """Return when a process started, in whatever units; None if it is not there or only its parent's to bury."""
    if Path("/proc/self/stat").exists():
        try:
            # the name may hold anything but ends with the last bracket
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    # two processes with other languages or time zones have to read the same
    plain = os.environ | {"LC_ALL": "C", "TZ": "UTC0"}
    command = ["ps", "-o", "stat=,lstart=", "-p", str(number)]
    shown = subprocess.run(command, capture_output=True, text=True, env=plain)
    state, _, start = shown.stdout.strip().partition(" ")
    return None if not start or state.startswith("Z") else re.sub(r"[:\s]+", "-", start.strip())
