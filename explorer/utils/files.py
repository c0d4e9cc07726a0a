"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spaces import PruningError

__all__ = ["atomic", "unwritable"]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary name to write to, which takes the place of `path` if nothing is raised.

    The file is on the disk before it takes its place, so that power that fails leaves the old file or the new one.

    Raises
    ------
    PruningError
        If the file cannot be written, with the system's reason.
    """
    # the suffix stays last: writers of plots and tables choose the format by it
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        # some writers make files that only their owner may read
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except Exception as error:
        if (reason := unwritable(error, path.parent)) is None:
            raise
        raise PruningError(f"{str(path)!r} can't be written: {reason}") from None
    finally:
        # on a disk that became read-only it stays
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def unwritable(error: Exception, folder: Path) -> str | None:
    """Return the system's reason for which nothing can be written in a folder, None where `error` has another cause.

    Writers of other libraries hide a full disk behind errors of their own, such as that of a file that is not there.
    """
    if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
        # some libraries put words of their own around it
        return os.strerror(error.errno)
    with suppress(OSError):
        if shutil.disk_usage(folder).free == 0:
            return os.strerror(errno.ENOSPC)
    return error.strerror if isinstance(error, OSError) else None


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems know no such thing of folders
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
