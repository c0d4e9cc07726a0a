"""Trained networks, kept so that the same one is never trained twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from explorer.utils.modules import tensors_of
from explorer.utils.tensor_cache import kept_tensors
from spaces.errors import PruningError

__all__ = ["trained_network"]


def trained_network(
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
        Created if need be, see `kept_tensors`.
    train
        Trains the network it is given, in place.

    Raises
    ------
    PruningError
        If the folder can't be written.
    """

    def make() -> nn.Module:
        model = build()
        train(model)
        return model

    def restore(tensors: Mapping[str, Tensor]) -> nn.Module:
        model = build()
        own = tensors_of(model)
        if {name: value.shape for name, value in own.items()} != {name: v.shape for name, v in tensors.items()}:
            raise PruningError("it holds another network")
        with torch.no_grad():
            for name, value in tensors.items():
                own[name].copy_(value)
        return model

    found, cached = kept_tensors(
        cache_dir, key, make=make, tensors=tensors_of, restore=restore, what="weights", again="trained"
    )
    return found.eval(), cached
