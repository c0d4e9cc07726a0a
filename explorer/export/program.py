"""Exported programs: what comes back of a model that has no import path."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from explorer.utils.files import atomic
from explorer.utils.modules import run
from spaces import PruningError, first_line

__all__ = ["Program", "load_program", "save_program"]

log = logging.getLogger("explorer")


class Program(nn.Module):
    """An exported program as a module for inference; it has no training mode."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(*args, **kwargs)

    def train(self, mode: bool = True) -> Program:
        if mode:
            raise PruningError("a program cannot be trained: explorer.load(folder, model=skeleton) gives the module")
        return self


def load_program(path: Path) -> Program:
    """Return a program that `save_program` wrote; reading one may run code of who wrote it.

    Raises
    ------
    PruningError
        If it can't be read.
    """
    try:
        return Program(torch.export.load(path).module())
    except Exception as error:  # of a damaged archive
        raise PruningError(f"program: {str(path)!r} can't be read ({first_line(error)[:200]})") from None


def save_program(module: nn.Module, example: Any, path: Path) -> None:
    args, kwargs = _arguments(_repeated(example, 2))
    batch = {0: torch.export.Dim.AUTO}
    shapes = tree_map(lambda leaf: batch if isinstance(leaf, torch.Tensor) and leaf.dim() else None, (args, kwargs))
    # arguments by position come first, as the signature has them
    program = torch.export.export(module, args, kwargs, dynamic_shapes=shapes[1] or shapes[0])
    try:
        with torch.no_grad():
            run(program.module(), _repeated(example, 3))
    except Exception:
        # the model's code made a number of the batch's size
        log.warning("the exported program takes one input at a time; load(folder, model=skeleton) takes batches")
        program = torch.export.export(module, *_arguments(_repeated(example, 1)))
    # the inputs it was exported with would be pickled, and may be data of the user's
    program.example_inputs = None
    with atomic(path) as temporary:
        torch.export.save(program, temporary)


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a model's inputs as positional and keyword arguments."""
    if isinstance(inputs, dict):
        return (), inputs
    return inputs if isinstance(inputs, tuple) else (inputs,), {}


def _repeated(example: Any, count: int) -> Any:
    """Return a batch of so many times one input: of a batch of one a program would know that there is one only."""

    def repeated(leaf: Any) -> Any:
        return torch.cat([leaf] * count) if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf

    return tree_map(repeated, example)
