"""Trust: which code a folder that somebody else made may run."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from explorer import models
from spaces import PruningError

__all__ = ["check_factory"]

_HOMES = ("explorer.models", "torchvision.models", "timm.models", "transformers")
# arguments by which factories of libraries read files or the network; an export has its weights itself
_READING = ("checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "weights", "weights_backbone")


def check_factory(factory: Any, arguments: Any, allow: Collection[str] = ()) -> None:
    """Check that a factory that a file names may be imported and called; nothing else than known libraries is.

    Parameters
    ----------
    factory, arguments
        As the file has them.
    allow
        Import paths of modules or functions that the caller trusts, besides networks of this project, torchvision, timm
        and transformers.

    Raises
    ------
    PruningError
        If it is none of these; the message says how to allow it.
    """
    if not isinstance(factory, str) or not isinstance(arguments, Mapping) or not all(map(str.isidentifier, arguments)):
        raise PruningError(f"factory: {str(factory)[:100]!r} of model.json is no import path with named arguments")
    allowed = [allow] if isinstance(allow, str) else allow
    if any(factory == path or factory.startswith(f"{path}.") for path in allowed):
        return
    if not any(factory.startswith(f"{home}.") and _is_network(home, factory) for home in _HOMES):
        module = factory.rpartition(".")[0] or factory
        raise PruningError(
            f"factory: {factory!r} of model.json would be imported and run; if you trust it, say allow=[{module!r}], "
            "else give the model itself: load(folder, model=...)"
        )
    for name in _READING:
        if arguments.get(name):
            raise PruningError(f"factory: {name}={arguments[name]!r} of model.json would read weights from elsewhere")


def _is_network(home: str, factory: str) -> bool:
    """Tell whether a path below a library's home is one of its networks; nothing but the library is imported."""
    try:
        found: Any = importlib.import_module(home)
        for name in factory.removeprefix(f"{home}.").split("."):
            found = getattr(found, name)
    except Exception:  # libraries are loaded late, and not all are there
        return False
    if isinstance(found, type):
        return issubclass(found, nn.Module) and found.__module__.startswith(home)
    return any(found is known for known in _networks(home))


def _networks(home: str) -> Iterator[Any]:
    """Yield the functions of a library that make networks."""
    if home == "explorer.models":
        yield from (*models.MODELS.values(), models.timm, models.torchvision, models.transformers)
    elif home == "torchvision.models":
        library = importlib.import_module(home)
        yield from (library.get_model_builder(name) for name in library.list_models())
    elif home == "timm.models":
        library = importlib.import_module("timm")
        yield from (library.model_entrypoint(name) for name in library.list_models())
