"""The structure of a batch: inputs of any kind beside targets, and batches drawn from a user's own loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from spaces.errors import PruningError

__all__ = ["Batch", "draw", "head", "moved", "size_of"]

Batch: TypeAlias = tuple[Any, Any]
"""Inputs and targets. Inputs are a tensor, a tuple of positional or a mapping of keyword arguments of the model."""

# what loaders that give a mapping, as those of transformers do, call the targets
_TARGETS = ("labels", "label", "targets", "target")


def head(inputs: Any, count: int) -> Any:
    """Return the first `count` of a batch of inputs."""
    return _each(lambda tensor: tensor[:count] if tensor.dim() else tensor, inputs)


def size_of(part: Any) -> int:
    """Return how many inputs, or targets, a part of a batch holds."""
    return next(leaf.size(0) for leaf in _tensors(part) if leaf.dim())


def moved(batch: Batch, device: torch.device | str) -> Batch:
    """Return a batch with its tensors on `device`."""
    inputs, targets = (_each(lambda tensor: tensor.to(device), part) for part in batch)
    return inputs, targets


def draw(loader: Iterable[Any], count: int | None = None, *, key: str = "loader") -> list[Batch]:
    """Return the first `count` batches of a user's loader, to be kept and read again and again.

    Parameters
    ----------
    loader
        A DataLoader, a list, or anything else that yields batches every time it is read. A batch is a pair
        (inputs, targets), where inputs are a tensor, a tuple or a mapping; a longer tuple, of which the last entry
        is the targets; or a mapping with the targets as ``labels``, ``label``, ``targets`` or ``target``.
    count
        How many; None for all. A shorter loader gives what it has.
    key
        What the user calls the loader, for messages.

    Raises
    ------
    PruningError
        If the loader can be read only once, is empty, or yields anything else.

    Examples
    --------
    >>> loader = [(torch.zeros(2, 3), torch.tensor([0, 1]))] * 5
    >>> len(draw(loader, 2))
    2
    """
    if not isinstance(loader, Iterable) and not hasattr(loader, "__getitem__"):
        raise PruningError(
            f"{key}: a {type(loader).__name__}; give a DataLoader, a list or another iterable of batches"
        )
    # not `iter(loader) is loader`, which would start a DataLoader's workers
    if isinstance(loader, Iterator):
        kind = type(loader).__name__
        raise PruningError(
            f"{key}: an iterator ({kind}) can be read only once; give a DataLoader, a list or another iterable"
        )
    kept = [_batch(batch, key) for batch in islice(loader, count)]
    if not kept:
        raise PruningError(f"{key}: yields no batch")
    return kept


def _batch(batch: Any, key: str) -> Batch:
    """Return a loader's batch as inputs and targets."""
    inputs, targets = _parts(batch, key)
    sizes = [[leaf.size(0) for leaf in _tensors(part) if leaf.dim()] for part in (inputs, targets)]
    if not all(sizes) or not sizes[0][0] or {*sizes[0], *sizes[1]} != {sizes[0][0]}:
        shapes = (", ".join(str(list(leaf.shape)) for leaf in _tensors(part)) or "none" for part in (inputs, targets))
        raise PruningError(
            f"{key}: a batch has inputs {next(shapes)} and targets {next(shapes)}; one target an input is needed"
        )
    # losses over classes take no other whole numbers
    return inputs, _each(lambda tensor: tensor.long() if _is_whole(tensor) else tensor, targets)


def _parts(batch: Any, key: str) -> Batch:
    if isinstance(batch, Mapping):
        name = next((name for name in _TARGETS if name in batch), None)
        if name is None:
            raise PruningError(f"{key}: yields a mapping of {', '.join(batch)}, needed is one of {', '.join(_TARGETS)}")
        return {other: value for other, value in batch.items() if other != name}, batch[name]
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise PruningError(f"{key}: yields {type(batch).__name__}, not pairs (inputs, targets) of tensors or a mapping")
    *inputs, targets = batch
    first = inputs[0] if len(inputs) == 1 else tuple(inputs)
    return (tuple(first) if isinstance(first, list) else first), targets


def _tensors(part: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(_plain(part)) if isinstance(leaf, Tensor)]


def _each(change: Callable[[Tensor], Tensor], part: Any) -> Any:
    """Return a tree with every tensor changed."""
    return tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, _plain(part))


def _plain(part: Any) -> Any:
    """Return a mapping of a class that torch's trees do not know as a dictionary."""
    return dict(part) if isinstance(part, Mapping) else part


def _is_whole(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool
