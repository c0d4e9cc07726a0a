"""Target: the folder of an export, which is whole or as it was before."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from explorer.utils.files import unwritable
from spaces import PruningError

__all__ = ["FILES", "check_target", "replaced"]

FILES = (
    "model.json",
    "recipe.yaml",
    "network.yaml",
    "weights.safetensors",
    "program.pt2",
    "model.onnx",
    "model.int8.onnx",
    "openvino.xml",
    "openvino.bin",
    "hf",
    "README.md",
)
"""The files of exports, and a folder of them; what else lies in a folder is somebody's and stays."""


def check_target(folder: Path) -> str | None:
    """Return the sentence that says what an export to a folder replaces, None where there is nothing to replace.

    Raises
    ------
    PruningError
        If it is a file, holds anything but an export, or can't be written.
    """
    try:
        if not folder.exists():
            parent = next(above for above in folder.absolute().parents if above.exists())
            if not parent.is_dir() or not os.access(parent, os.W_OK):
                raise PruningError(f"out: {str(folder)!r} can't be written (no folder can be made in {str(parent)!r})")
            return None
        if not folder.is_dir():
            raise PruningError(f"out: {str(folder)!r} is a file, allowed is a folder")
        if not os.access(folder, os.W_OK):
            raise PruningError(f"out: {str(folder)!r} can't be written (Permission denied)")
        there = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise PruningError(f"out: {str(folder)!r} can't be written ({error.strerror})") from None
    if not there:
        return None
    if not _is_export(folder):
        raise PruningError(
            f"out: {str(folder)!r} holds {', '.join(there[:3])}{' ...' if len(there) > 3 else ''} and is no export, "
            "allowed is a new folder, an empty one, or an export, which is replaced"
        )
    ours = [name for name in there if name in FILES]
    return f"{str(folder)!r} held another export, whose {', '.join(ours)} are replaced"


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """Give a temporary folder whose files take the place of the export in `folder` if nothing is raised.

    Raises
    ------
    PruningError
        As `check_target`, and if the folder can't be written after all.
    """
    check_target(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        yield temporary
        _put(temporary, folder)
    except OSError as error:
        reason = unwritable(error, folder.parent) or error.strerror
        raise PruningError(f"out: {str(folder)!r} can't be written ({reason})") from None
    except PruningError as error:
        # of a file in it: named by where it should have been
        raise PruningError(str(error).replace(str(temporary), str(folder))) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put(made: Path, folder: Path) -> None:
    if not folder.exists():
        os.replace(made, folder)
        return
    # without it the folder holds no export, so that none of two halves is loaded
    (folder / "model.json").unlink(missing_ok=True)
    names = {path.name for path in made.iterdir()}
    for name in FILES:
        if name not in names or (folder / name).is_dir():
            _remove(folder / name)
    for name in sorted(names, key=lambda name: name == "model.json"):
        os.replace(made / name, folder / name)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_export(folder: Path) -> bool:
    with suppress(OSError, ValueError):
        record = json.loads((folder / "model.json").read_text())
        return isinstance(record, dict) and {"factory", "encodings", "kept"} <= record.keys()
    return False
