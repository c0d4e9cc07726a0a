"""Exported programs: what comes back of a model that has no import path."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from explorer.utils.files import atomic
from explorer.utils.programs import Program
from explorer.utils.quiet import quiet
from spaces import PruningError, first_line

__all__ = ["ProgramModule", "load_program", "save_program"]

log = logging.getLogger("explorer")


class ProgramModule(nn.Module):
    """An exported program as a module for inference; it has no training mode."""

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.program(*args, **kwargs)

    def train(self, mode: bool = True) -> ProgramModule:
        if mode:
            raise PruningError("a program cannot be trained: explorer.load(folder, model=skeleton) gives the module")
        return self


def load_program(path: Path) -> ProgramModule:
    """Return a program that `save_program` wrote; reading one may run code of who wrote it.

    Raises
    ------
    PruningError
        If it can't be read.
    """
    try:
        with quiet():
            return ProgramModule(torch.export.load(path).module())
    except Exception as error:  # of a damaged archive
        raise PruningError(f"program: {str(path)!r} can't be read ({first_line(error)[:200]})") from None


def save_program(program: Program, path: Path) -> None:
    """Write a program without the inputs it was exported with."""
    if not program.batches:
        log.warning("the exported program takes one input at a time; load(folder, model=skeleton) takes batches")
    # they would be pickled, and may be data of the user's
    inputs, program.exported.example_inputs = program.exported.example_inputs, None
    try:
        with quiet(), atomic(path) as temporary:
            torch.export.save(program.exported, temporary)
    finally:
        program.exported.example_inputs = inputs
