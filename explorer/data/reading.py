"""Reading a folder or a hub data set with the `datasets` library, every failure one line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from spaces.errors import PruningError, first_line

if TYPE_CHECKING:
    from datasets import DatasetDict


__all__ = ["read_folder", "read_hub"]

GIB = 2**30


def read_folder(path: str | Path, *, max_gib: float) -> DatasetDict:
    """Return the splits of a local folder; nothing goes to the network.

    Parameters
    ----------
    path
        A folder of parquet files in Hugging Face schema (``train-*.parquet``, ``test-*.parquet``) or of
        image folders (``train/cat/1.png``).
    max_gib
        Parquet files above this size are refused before they are read.

    Raises
    ------
    PruningError
        ``data.path: ...`` if the folder isn't there, holds no data or can't be read.
    """
    # imported here: a second that runs on built-in data needn't spend
    from datasets import load_dataset

    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise PruningError(f"data.path: there is no folder {str(folder)!r}")
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet")) / GIB
    if size > max_gib:
        raise PruningError(
            f"data.max_gib: the files of {str(folder)!r} alone take {size:.1f} GiB, {max_gib} are allowed"
        )
    try:
        # the library rewrites a data set as Arrow files below cache_dir: kept in memory, they needn't stay there
        with _quiet(), tempfile.TemporaryDirectory() as cache:
            return load_dataset(str(folder), cache_dir=cache, keep_in_memory=True)
    except FileNotFoundError as error:
        raise PruningError(f"data.path: no parquet files or images in {str(folder)!r}") from error
    except Exception as error:  # the library raises whatever its readers do
        raise PruningError(f"data.path: {str(folder)!r} can't be read: {_reason(error)}") from error


def read_hub(name: str) -> DatasetDict:
    """Return the splits of a data set of the Hugging Face hub, downloaded once to the library's own cache.

    Raises
    ------
    PruningError
        ``data: ...`` if the hub can't be reached or doesn't know the name.
    """
    from datasets import load_dataset
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        # asked first because load_dataset retries for half a minute
        HfApi().dataset_info(name, timeout=10)
    except OfflineModeIsEnabled:
        pass
    except Exception as error:
        raise PruningError(
            f"data: {name!r} can't be had from the hub ({_reason(error)}); set data.path to a local "
            "folder, or HF_HUB_OFFLINE=1 to use an earlier download"
        ) from error
    try:
        return load_dataset(name)
    except Exception as error:
        raise PruningError(f"data: {name!r} can't be loaded: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Return the first line of what first went wrong."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error) or type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the library's progress bars and its own report of an error that we word ourselves."""
    from datasets import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils import logging

    verbosity, silent = logging.get_verbosity(), are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if not silent:
            enable_progress_bars()
