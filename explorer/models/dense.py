"""Trained dense networks, kept so that the same one is never trained twice."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from filelock import FileLock
from safetensors.torch import load_model, save_model
from torch import nn

from explorer.utils.files import atomic
from spaces.errors import PruningError, first_line

__all__ = ["dense_network"]

log = logging.getLogger(__name__)


def dense_network(
    build: Callable[[], nn.Module],
    *,
    key: Mapping[str, object],
    cache_dir: Path,
    train: Callable[[nn.Module], None],
) -> tuple[nn.Module, bool]:
    """Return a trained network in eval mode, and whether it came from the cache.

    Processes that ask for the same network at once train it once: the others wait for it.

    Parameters
    ----------
    build
        Gives an untrained network, the same at every call (it seeds the weights itself): it is called
        again if a cached file turns out not to fit.
    key
        What made the network: configuration of model and training, identity of the data, seed. Can be
        written as JSON; its order doesn't matter.
    cache_dir
        Created if need be. A network is a .safetensors file and a .json file with its key and checksum,
        both named after a hash of the key.
    train
        Trains the network it is given, in place.

    Raises
    ------
    PruningError
        If the folder can't be written.
    """
    text = json.dumps(key, sort_keys=True)
    stem = hashlib.sha256(text.encode()).hexdigest()[:16]
    weights, record = cache_dir / f"{stem}.safetensors", cache_dir / f"{stem}.json"
    with _locked(cache_dir / f"{stem}.lock"):
        if record.exists():
            model = build()
            reason = _load(model, weights, record)
            if reason is None:
                return model.eval(), True
            log.warning("the cached dense network %s is trained again: %s", weights, reason)
        # loading may have filled a part of the model before it failed
        model = build()
        train(model)
        model.eval()
        with atomic(weights) as temporary:
            save_model(model, str(temporary))
            checksum = _checksum(temporary)
        # last, because its presence says that the weights are complete
        with atomic(record) as temporary:
            temporary.write_text(json.dumps({"key": key, "sha256": checksum}, sort_keys=True, indent=1) + "\n")
        return model, False


def _load(model: nn.Module, weights: Path, record: Path) -> str | None:
    """Fill the model from the cache; return why it couldn't be, or None."""
    try:
        if _checksum(weights) != json.loads(record.read_text())["sha256"]:
            return "its checksum is wrong"
        load_model(model, weights)
    except Exception as error:  # whatever is wrong with the files, training again mends it
        return first_line(error) or type(error).__name__
    return None


def _locked(path: Path) -> AbstractContextManager[object]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path).acquire()
    except OSError as error:
        raise PruningError(f"the cache of dense networks {str(path.parent)!r} can't be written: {error}") from error


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
