"""Journal: a study in a file of numbered lines, which several processes may write and any of them be killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend

from spaces import PruningError

__all__ = ["journal"]

_NUMBER = "line"
_END = b"\n"


def journal(path: Path) -> BaseStorage:
    """Return the journal storage at `path`, which several processes may write and any of them be killed.

    Raises
    ------
    PruningError
        Here and later, if a line is missing or is none of a journal's, or the file can't be written.
    """
    return JournalStorage(_Journal(path))


class _Journal(BaseJournalBackend):
    """A file of JSON lines with their numbers, so that none can be lost in silence.

    The lock dies with its holder. A last line that a killed process tore is cut off by whoever writes next.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._held = path, FileLock(path.with_name(f".{path.name}.lock"), poll_interval=0.002)
        path.open("ab").close()
        # how much was read: whole lines, and their bytes
        self._lines = self._bytes = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        if log_number_from < self._lines:
            self._lines = self._bytes = 0
        with self._path.open("rb") as file:
            file.seek(self._bytes)
            for line in file:
                if not line.endswith(_END):
                    # torn, or not written yet to its end
                    break
                log = _parsed(line, self._lines + 1)
                if log is None:
                    # it may have been read while a torn line was cut off
                    log, line = self._read_again()
                self._lines += 1
                self._bytes += len(line)
                if self._lines > log_number_from:
                    yield log

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        try:
            with self._held, self._path.open("r+b") as file:
                number = self._lines + _cut(file, self._bytes)
                lines = [{_NUMBER: number + i, **log} for i, log in enumerate(logs, start=1)]
                file.write(b"".join(json.dumps(line, separators=(",", ":")).encode() + _END for line in lines))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise PruningError(f"storage: the journal {str(self._path)!r} can't be written: {error.strerror}") from None

    def _read_again(self) -> tuple[dict[str, Any], bytes]:
        """Return the next line, read while nobody writes, as it is parsed and as it is."""
        with self._held, self._path.open("rb") as file:
            file.seek(self._bytes)
            line = file.readline()
        log = _parsed(line, self._lines + 1)
        if log is None:
            raise PruningError(
                f"storage: {str(self._path)!r}, line {self._lines + 1}: not the entry of that number, one is "
                "missing or damaged; put back a copy of the file, or remove it to begin again"
            )
        return log, line


def _parsed(line: bytes, number: int) -> dict[str, Any] | None:
    """Return the entry that a line holds, None where it is not that of this number."""
    try:
        log = json.loads(line)
    except ValueError:
        return None
    return log if isinstance(log, dict) and log.get(_NUMBER) == number and "op_code" in log else None


def _cut(file: BinaryIO, start: int) -> int:
    """Cut a torn last line off a file, stand at its end, and return how many lines there are from `start` on."""
    file.seek(start)
    rest = file.read()
    whole = rest.rfind(_END) + 1
    file.truncate(start + whole)
    file.seek(start + whole)
    return rest.count(_END)
