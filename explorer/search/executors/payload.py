"""Payload: the pickled evaluation, written once and read by all workers."""

from __future__ import annotations

import os
import pickle
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import cloudpickle

from explorer.search.jobs import Evaluate
from spaces import PruningError, first_line

__all__ = ["read", "write"]

# written by torch, so that its tensors are mapped into memory and all workers of a machine share one copy
_TENSORS = ".pt"
_PLAIN = ".pkl"


class _TensorMetError(Exception):
    """What is pickled holds a tensor."""


class _Tensorless(cloudpickle.Pickler):
    """Pickles what holds no tensor."""

    def persistent_id(self, value: Any) -> None:
        """Return nothing: all is pickled in place.

        Raises
        ------
        _TensorMetError
            If `value` is a tensor.
        """
        # where torch was not imported nothing can be a tensor
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.Tensor):
            raise _TensorMetError


def write(evaluate: Evaluate, folder: Path) -> Path:
    """Write the evaluation to a new file of a folder, and return its path.

    Files that drivers of this machine left there when they were killed are removed.

    Raises
    ------
    PruningError
        If it cannot be pickled, or the folder cannot be written.
    """
    host = socket.gethostname()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(f"payload-{host}-*"):
            if not _is_there(int(path.name.removeprefix(f"payload-{host}-").split("-")[0])):
                path.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=f"payload-{host}-{os.getpid()}-")
        path = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            suffix = _dump(evaluate, file)
        return path.rename(path.with_suffix(suffix))
    except OSError as error:
        raise PruningError(f"{folder}: can't be written ({error.strerror})") from None


def read(path: Path) -> Evaluate:
    """Return the evaluation of a file; tensors of a GPU come to the first one that this process sees."""
    if path.suffix == _PLAIN:
        with path.open("rb") as file:
            return pickle.load(file)
    import torch

    def place(storage: Any, location: str) -> Any:
        return storage.cuda() if location.startswith("cuda") else storage

    return torch.load(path, map_location=place, mmap=True, weights_only=False)


def _dump(evaluate: Evaluate, file: Any) -> str:
    """Write a pickle to an empty file, and return the suffix that says how to read it."""
    try:
        _Tensorless(file).dump(evaluate)
        return _PLAIN
    except _TensorMetError:
        import torch

        file.seek(0)
        file.truncate()
        try:
            torch.save(evaluate, file, pickle_module=cloudpickle)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise _unpicklable(error) from None
        return _TENSORS
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise _unpicklable(error) from None


def _unpicklable(error: Exception) -> PruningError:
    line = first_line(error)
    return PruningError(f"executor: the evaluation can't be sent to workers ({line}); executor=inline needs no sending")


def _is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
