"""GGUF files: how transformers is told of one, for a model, its configuration and its tokenizer alike."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from spaces.errors import PruningError

__all__ = ["gguf_options", "is_gguf"]


def is_gguf(name: str) -> bool:
    """Tell whether there is a GGUF file of that name."""
    return name.endswith(".gguf") and Path(name).expanduser().is_file()


def gguf_options(name: str, key: str) -> tuple[str, dict[str, str]]:
    """Return what transformers calls a model by, and as an option the GGUF file of it that is meant, if one is.

    Parameters
    ----------
    name
        A GGUF file, or anything else, which is returned as it is.
    key
        The configuration key of it, for errors.

    Raises
    ------
    PruningError
        If it is a GGUF file that is not there, or what reads these is missing.
    """
    if not name.endswith(".gguf"):
        return name, {}
    if not is_gguf(name):
        raise PruningError(f"{key}: {name!r}, there is no such file")
    for needed in ("gguf", "accelerate"):
        if find_spec(needed) is None:
            raise PruningError(f"{key}: a GGUF file needs {needed}, pip install {needed}")
    file = Path(name).expanduser()
    return str(file.parent), {"gguf_file": file.name}
