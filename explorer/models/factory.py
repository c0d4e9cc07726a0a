"""Models by the import path of their factory."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from explorer.models.unused import drop_unused
from explorer.utils.instantiate import called, locate
from spaces.errors import PruningError, first_line

__all__ = ["build_model", "without_unused"]

log = logging.getLogger("explorer")


def build_model(target: str, arguments: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """Return a freshly initialised model; the global random state is left as it was.

    Parameters
    ----------
    target
        Import path of the factory.
    arguments
        The factory's; ``drop_unused`` is none of them, but the shape of an image on which every module has to run.
    seed
        Of the initial weights.

    Raises
    ------
    PruningError
        If the factory refuses the arguments or returns no module.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        given = {key: value for key, value in arguments.items() if key != "drop_unused"}
        model = called("model", locate("model._target_", target), given)
    if not isinstance(model, nn.Module):
        raise PruningError(f"model._target_: {target!r} returns a {type(model).__name__}, not a torch module")
    if "drop_unused" in arguments:
        without_unused(model, arguments["drop_unused"])
    return model


def without_unused(model: nn.Module, shape: Sequence[int]) -> None:
    """Drop the modules of a model that do not run on an image of a shape.

    Raises
    ------
    PruningError
        If the model cannot take such an image.
    """
    try:
        dropped = drop_unused(model, torch.zeros(1, *shape))
    except Exception as error:
        line = first_line(error)
        raise PruningError(f"model.drop_unused: forward raised {type(error).__name__}: {line}") from error
    log.info("model: without %s, which run in training only", ", ".join(dropped) or "nothing")
