"""Where a study is kept, and who drives it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalRedisBackend
from optuna.study import StudyDirection

from spaces import PruningError

__all__ = ["driving", "journal", "open_study", "redacted", "shared_storage"]


@contextmanager
def driving(folder: Path) -> Iterator[None]:
    """Create a run's folder and hold its lock, which dies with the process.

    Raises
    ------
    PruningError
        If another process holds it, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise PruningError(
            f"name: another process is driving the run in {str(folder)!r}; wait for it or stop it"
        ) from None
    except OSError as error:
        raise PruningError(f"name: the folder {str(folder)!r} can't be written: {error.strerror}") from None
    try:
        yield
    finally:
        lock.release()


def journal(path: Path) -> BaseStorage:
    """Return the journal storage at `path`, repaired: only for the process that holds the run's lock.

    A killed driver may leave Optuna's own lock behind, and a last line that is not complete.
    """
    for stale in path.parent.glob(f"{path.name}.lock*"):
        with suppress(FileNotFoundError):
            stale.unlink()
    if path.exists():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
    return JournalStorage(JournalFileBackend(str(path)))


def shared_storage(url: str) -> BaseStorage:
    """Return an Optuna storage by its URL: a database as SQLAlchemy names it, or a journal on ``redis://``.

    Raises
    ------
    PruningError
        If it cannot be opened; the message shows no password.
    """
    try:
        if url.startswith("redis"):
            return JournalStorage(JournalRedisBackend(url))
        return optuna.storages.RDBStorage(url)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0].replace(url, redacted(url))
        raise PruningError(f"storage.url: {redacted(url)!r} can't be opened ({type(error).__name__}: {line})") from None


def open_study(
    storage: BaseStorage | None, name: str, objectives: Sequence[str], *, identity: str | None = None
) -> optuna.Study:
    """Return the study `name` in `storage` (in memory for None), created if it is new; all is minimised.

    Parameters
    ----------
    storage, name, objectives
        Of the study.
    identity
        What its values depend on; kept in the study.

    Raises
    ------
    PruningError
        If the storage holds a study of that name with another identity.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [StudyDirection.MINIMIZE] * len(objectives)
    study = optuna.create_study(storage=storage, study_name=name, directions=directions, load_if_exists=True)
    stored = study.user_attrs.setdefault("identity", identity)
    if stored != identity or len(study.directions) != len(objectives):
        raise PruningError(f"name: the storage holds a study {name!r} of another configuration")
    if identity is not None:
        study.set_user_attr("identity", identity)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(objectives))
    return study


def redacted(url: str) -> str:
    """Return a URL without its password."""
    url = re.sub(r"(?i)(passw(?:or)?d=)[^&]*", r"\1***", url)
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", url)
