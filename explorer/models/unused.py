"""Modules that run in training only, such as auxiliary heads, taken out of a model."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["drop_unused"]


def drop_unused(model: nn.Module, example: Tensor) -> list[str]:
    """Return the names of the modules with parameters that do not run in eval mode, after they became None.

    What they read can then be pruned. A model that calls them in training without asking whether they are there does
    not train any more.

    Parameters
    ----------
    model
        Changed in place; its modes stay.
    example
        One input.

    Examples
    --------
    >>> model = nn.ModuleDict({"body": nn.Linear(4, 2), "auxiliary": nn.Linear(4, 2)})
    >>> model.forward = lambda x: model["body"](x)
    >>> drop_unused(model, torch.zeros(1, 4))
    ['auxiliary']
    """
    ran: set[str] = set()
    modes = {module: module.training for module in model.modules()}
    handles = [
        module.register_forward_pre_hook(partial(_note, ran, name))
        for name, module in model.named_modules(remove_duplicate=False)
    ]
    try:
        # a module that is passed over may have lent its weight to another
        with torch.random.fork_rng(devices=[]), torch.no_grad(), _Touched() as touched:
            model.eval()(example)
    finally:
        for handle in handles:
            handle.remove()
        for module, training in modes.items():
            module.training = training
    found: list[str] = []
    for name, module in model.named_modules():
        runs = any(part == name or part.startswith(f"{name}.") for part in ran)
        parameters = {id(parameter) for parameter in module.parameters()}
        if name and not runs and parameters and not parameters & touched.ids and not _inside(name, found):
            found.append(name)
    for name in found:
        owner, _, child = name.rpartition(".")
        model.get_submodule(owner)._modules[child] = None
    return found


class _Touched(TorchDispatchMode):
    """Notes the ids of all tensors that are computed with; those of parameters stay theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ids |= {id(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        return func(*args, **(kwargs or {}))


def _note(ran: set[str], name: str, *_: Any) -> None:
    ran.add(name)


def _inside(name: str, others: list[str]) -> bool:
    return any(name.startswith(f"{other}.") for other in others)
