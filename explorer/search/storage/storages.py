"""Where a study is kept."""

from __future__ import annotations

import random
import re
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from explorer.search.storage.journal_file import journal
from explorer.search.storage.reconnecting import opened, reconnecting
from spaces import PruningError, first_line

__all__ = ["open_study", "redacted", "shared_storage"]

_ANSWER = 10.0
_TRIES = 10


def shared_storage(url: str) -> BaseStorage:
    """Return an Optuna storage that outlives a restart of its server.

    Parameters
    ----------
    url
        A database as SQLAlchemy names it; ``host:port`` of Optuna's gRPC proxy; or the path of a file,
        ``*.journal``.

    Raises
    ------
    PruningError
        If it cannot be opened; the message shows no password.
    """
    kind = next(kind for pattern, kind in _KINDS if re.match(pattern, url))
    try:
        storage = opened(lambda: _answering(_OPEN[kind](url)))
    except PruningError:
        raise
    except Exception as error:
        raise PruningError(f"storage.url: {redacted(url)!r} can't be opened ({_reason(error, kind, url)})") from None
    return storage if kind == "journal" else reconnecting(storage)


def _answering(storage: BaseStorage) -> BaseStorage:
    # a server that is not there is a mistake now and an accident later
    storage.get_all_studies()
    return storage


def _database(url: str) -> BaseStorage:
    # a connection that broke while nobody used it is replaced in silence
    kwargs = {} if url.startswith("sqlite") else {"pool_pre_ping": True}
    for _ in range(_TRIES):
        try:
            return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=dict(kwargs)))
        except Exception as error:
            if not _rivalled(error):
                raise
            time.sleep(random.uniform(0.1, 0.5))
    return optuna.storages.get_storage(optuna.storages.RDBStorage(url, engine_kwargs=kwargs))


def _rivalled(error: BaseException | None) -> bool:
    """Tell whether another process made the tables of a new database in the same moment."""
    said = "already exists" in str(error) or type(error).__name__ == "IntegrityError"
    return error is not None and (said or _rivalled(error.__cause__ or error.__context__))


def _proxy(url: str) -> BaseStorage:
    host, _, port = url.removeprefix("grpc://").rpartition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    proxy.wait_server_ready(_ANSWER)
    return proxy


_KINDS = (
    (r"(grpc://)?([^/:@]+|\[[0-9a-fA-F:]+\]):\d+$", "grpc"),
    (r".*\.journal$", "journal"),
    (r"", "rdb"),
)
_OPEN: dict[str, Callable[[str], BaseStorage]] = {
    "grpc": _proxy,
    "rdb": _database,
    "journal": lambda url: journal(Path(url)),
}


_ALLOWED = (
    "allowed: host:port of a gRPC proxy; a URL such as sqlite:///study.db or postgresql+psycopg://USER@HOST/DATABASE; "
    "or a path *.journal"
)
# SQLAlchemy's, for what is no URL and for a database it does not know
_UNKNOWN = ("ArgumentError", "NoSuchModuleError")


def _reason(error: Exception, kind: str, url: str) -> str:
    """Return why a storage can't be opened, in one line and without its password."""
    if isinstance(error, ImportError):
        return f"its driver is missing: pip install 'pruning-spaces[{kind}]'"
    if type(error).__name__ in _UNKNOWN:
        return _ALLOWED
    line = first_line(error).replace(url, redacted(url))
    for password in _passwords(url):
        line = line.replace(password, "***")
    return f"{type(error).__name__}: {line}"


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
    for pattern in _PASSWORDS:
        url = re.sub(pattern, r"\1***\3", url)
    return url


# a user's, up to the last @ since it may hold some itself; and those among the options
_PASSWORDS = (r"((?:^|://)[^:/@]*:)(?!//)(.*)(@)", r"(?i)(passw(?:or)?d=)([^&]*)()")


def _passwords(url: str) -> list[str]:
    found = [match[2] for pattern in _PASSWORDS for match in re.finditer(pattern, url)]
    return sorted({text for password in found for text in (password, unquote(password)) if text}, key=len, reverse=True)
