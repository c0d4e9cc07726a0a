"""Checkpoints: states of trainings that may go on, and the weights of those that ended."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from explorer.utils.files import atomic
from explorer.utils.modules import tensors_of
from spaces import PruningError, first_line

__all__ = ["Checkpoints"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoints:
    """A folder of states and weights, by name; every file is whole or not there.

    Parameters
    ----------
    folder
        Created when the first file is written. None keeps nothing.
    """

    folder: Path | None

    def state(self, name: str) -> dict[str, Any] | None:
        """Return the state kept last, on the CPU; None where there is none, or none that can be read."""
        path = self._path(name, ".state")
        if path is None or not path.exists():
            return None
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever is wrong with the file, training again mends it
            log.warning("the checkpoint %s is not used: %s", path, first_line(error))
            return None

    def keep_state(self, name: str, state: dict[str, Any]) -> None:
        """Keep a state in place of the one before: about two to four times the size of the weights."""
        path = self._made(name, ".state")
        if path is not None:
            with atomic(path) as temporary:
                torch.save(state, temporary)

    def weights(self, name: str, model: nn.Module) -> dict[str, Any] | None:
        """Fill a model with the weights kept and return their facts; None, and nothing changed, without any."""
        path = self._path(name, ".safetensors")
        if path is None or not path.exists():
            return None
        own = tensors_of(model)
        try:
            with safe_open(str(path), "pt") as file:
                kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no mapping
                facts = json.loads(file.metadata()["facts"])
            if {key: value.shape for key, value in own.items()} != {key: value.shape for key, value in kept.items()}:
                raise PruningError("it holds another network")
        except Exception as error:  # as above
            log.warning("the weights %s are not used: %s", path, first_line(error))
            return None
        with torch.no_grad():
            for key, value in kept.items():
                own[key].copy_(value)
        return facts

    def keep_weights(self, name: str, model: nn.Module, facts: dict[str, Any]) -> None:
        """Keep a trained network's tensors and facts that can be written as JSON, and drop its state."""
        path = self._made(name, ".safetensors")
        if path is None:
            return
        # a copy each, since the format knows no shared memory
        tensors = {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in tensors_of(model).items()
        }
        with atomic(path) as temporary:
            save_file(tensors, str(temporary), {"facts": json.dumps(facts)})
        self.drop_state(name)

    def drop_state(self, name: str) -> None:
        """Forget a state, and what processes that were killed left of files of this name."""
        if (path := self._path(name, ".state")) is not None:
            for old in (path, *path.parent.glob(f".{name}.*")):
                old.unlink(missing_ok=True)

    def tidy(self, names: Collection[str]) -> None:
        """Forget all states, and all weights but those of some names."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path.suffix == ".state" or (path.suffix == ".safetensors" and path.stem not in names):
                path.unlink(missing_ok=True)

    def _path(self, name: str, suffix: str) -> Path | None:
        return None if self.folder is None else self.folder / f"{name}{suffix}"

    def _made(self, name: str, suffix: str) -> Path | None:
        path = self._path(name, suffix)
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise PruningError(f"checkpoints: {str(path.parent)!r} can't be written ({error.strerror})") from None
        return path
