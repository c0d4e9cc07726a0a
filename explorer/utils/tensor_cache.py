"""Tensors that took long to make, kept in files so that no process of a machine makes the same ones twice."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock
from safetensors.torch import load_file, save_file
from torch import Tensor

from explorer.utils.files import atomic
from spaces.errors import PruningError, first_line

__all__ = ["kept_tensors"]

log = logging.getLogger(__name__)

T = TypeVar("T")


def kept_tensors(
    folder: Path,
    key: Mapping[str, object],
    *,
    make: Callable[[], T],
    tensors: Callable[[T], Mapping[str, Tensor]],
    restore: Callable[[Mapping[str, Tensor]], T],
    what: str,
    again: str,
) -> tuple[T, bool]:
    """Return what `make` makes, and whether it came from a file of an earlier call with the same key.

    Processes that ask for the same at once make it once: the others wait. Files that are not whole, or that `restore`
    refuses, are made again.

    Parameters
    ----------
    folder
        Created if need be. What is kept is a .safetensors file and a .json file with its key and checksum, both named
        after `what` and a hash of the key.
    key
        All that the tensors depend on. Can be written as JSON; its order doesn't matter.
    make
        Makes it; what it raises leaves no file.
    tensors
        The tensors that are kept of it.
    restore
        Makes it of these tensors, on the CPU.
    what, again
        What is kept in one word, and how it is made: for names and messages.

    Raises
    ------
    PruningError
        If the folder can't be written.
    """
    text = json.dumps(key, sort_keys=True)
    stem = f"{what}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    values, record = folder / f"{stem}.safetensors", folder / f"{stem}.json"
    with _locked(folder / f"{stem}.lock", what, needed=not record.exists()):
        if record.exists():
            try:
                if _checksum(values) != json.loads(record.read_text())["sha256"]:
                    raise PruningError("its checksum is wrong")
                return restore(load_file(values)), True
            except Exception as error:  # whatever is wrong with the files, making it again mends it
                line = first_line(error) or type(error).__name__
                log.warning("the cached %s %s are %s again: %s", what, values, again, line)
        made = make()
        try:
            with atomic(values) as temporary:
                save_file(_apart(tensors(made)), str(temporary))
                checksum = _checksum(temporary)
            # last, because its presence says that the tensors are complete
            with atomic(record) as temporary:
                temporary.write_text(json.dumps({"key": key, "sha256": checksum}, sort_keys=True, indent=1) + "\n")
        except OSError as error:
            raise PruningError(f"the cache of {what} {str(folder)!r} can't be written: {error}") from error
        return made, False


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU, of which those that share memory are copied: the file's format knows none of that."""
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        here = value.detach().cpu()
        storage = here.untyped_storage()
        alone = here.is_contiguous() and storage.nbytes() == here.nbytes and storage.data_ptr() not in seen
        seen.add(storage.data_ptr())
        apart[name] = here if alone else here.clone(memory_format=torch.contiguous_format)
    return apart


def _locked(path: Path, what: str, *, needed: bool) -> AbstractContextManager[object]:
    """Return a lock; none where it can't be had in a folder that nobody can write, and need not be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path).acquire()
    except OSError as error:
        if not needed:
            return nullcontext()
        raise PruningError(f"the cache of {what} {str(path.parent)!r} can't be written: {error}") from error


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
