"""A model's module tree without its tensors: what is copied for every candidate, and made to agree with its tensors."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from explorer.pruning.surgery.attributes import update_of
from explorer.pruning.surgery.stand_ins import PLAIN

__all__ = ["Skeleton", "copied", "histories"]


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of a model; activations that it keeps are copied without their history."""
    return copy.deepcopy(model, histories(value for module in model.modules() for value in vars(module).values()))


def histories(values: Iterable[Any]) -> dict[int, Any]:
    """Return a memo for `copy.deepcopy` with the activations among these values, which it refuses to copy."""
    tensors = (leaf for leaf in tree_leaves(list(values)) if isinstance(leaf, Tensor))
    return {id(tensor): tensor.detach().clone() for tensor in tensors if not tensor.is_leaf}


class Skeleton:
    """A model's module tree without its tensors, copied for every candidate.

    Attributes that cannot change (numbers, strings) are shared; anything else is deep-copied with the tensors
    and modules already replaced, so that lists of modules or tied weights point into the copy.

    Parameters
    ----------
    model
        The dense model.
    tensors
        Those of its tensors that every copy replaces.
    """

    def __init__(self, model: nn.Module, tensors: Iterable[Tensor]) -> None:
        self._root = id(model)
        known = {id(part) for part in (None, *tensors, *model.modules())}
        names: dict[int, list[str]] = {}
        for name, module in model.named_modules(remove_duplicate=False):
            names.setdefault(id(module), []).append(f"{name}.")
        self._parts = [_Part(module, names[id(module)], known) for module in model.modules()]

    def copy(self, replaced: dict[int, Any], dropped: Collection[str] = ()) -> nn.Module:
        """Return the copy.

        Parameters
        ----------
        replaced
            The id of every dense tensor and its new one, and of every dropped module and what takes its place;
            it gains the other modules.
        dropped
            Names of the dropped modules.
        """
        replaced[id(None)] = None
        parts, clones = self._parts, []
        if dropped:
            inside = tuple(f"{name}." for name in dropped)
            # a module that another place still holds stays
            parts = [part for part in parts if not all(name.startswith(inside) for name in part.names)]
        for part in parts:
            clone = replaced[id(part.module)] = object.__new__(type(part.module))
            clone.__dict__.update(part.shared)
            for name, kind in part.empty:
                clone.__dict__[name] = kind()
            clones.append(clone)
        for part, clone in zip(parts, clones, strict=True):
            for name, ids in part.tables:
                clone.__dict__[name] = {key: replaced[i] for key, i in ids}
            for name in part.other:
                value = vars(part.module)[name]
                replaced |= {known: new for known, new in histories([value]).items() if known not in replaced}
                clone.__dict__[name] = copy.deepcopy(value, replaced)
        # what lies below comes first, as an encoder asks what became of its layers
        for part, clone in zip(reversed(parts), reversed(clones), strict=True):
            if part.update is not None:
                part.update(clone)
        return replaced[self._root]


class _Part:
    """One module of a skeleton: its names, each with a dot, and its attributes by the way they are copied."""

    def __init__(self, module: nn.Module, names: list[str], known: set[int]) -> None:
        self.module, self.names = module, names
        self.shared: dict[str, Any] = {}
        self.empty: list[tuple[str, type]] = []
        self.tables: list[tuple[str, list[tuple[str, int]]]] = []
        self.other: list[str] = []
        for name, value in vars(module).items():
            if name == "_compiled_call_impl":
                # it would run the dense model
                continue
            if isinstance(value, PLAIN) or _is_plain_tuple(value):
                self.shared[name] = value
            elif isinstance(value, dict | set | list) and not value:
                self.empty.append((name, type(value)))
            elif type(value) is dict and known.issuperset(map(id, value.values())):
                self.tables.append((name, [(key, id(entry)) for key, entry in value.items()]))
            else:
                self.other.append(name)
        self.update = update_of(module)


def _is_plain_tuple(value: Any) -> bool:
    return type(value) is tuple and all(isinstance(part, PLAIN) for part in value)
