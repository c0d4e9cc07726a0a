"""The runtimes that latency can be measured in, and the packages of each; checked without importing any."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from spaces import PruningError, unknown

__all__ = ["ONNX", "RUNTIMES", "check_runtime", "missing"]

ONNX = ("onnx", "onnxscript", "onnxruntime")
"""The packages that ONNX files need; extra ``onnx``."""

RUNTIMES: Mapping[str, tuple[str, Sequence[str]]] = {
    "torch": ("torch", ()),
    "compile": ("torch.compile", ()),
    "onnxruntime": ("ONNX Runtime", ONNX),
    "openvino": ("OpenVINO", (*ONNX, "openvino")),
}
"""What each is called, and its packages besides torch."""


def missing(packages: Sequence[str]) -> str | None:
    """Return the command that installs packages of which one is not there, None where all are."""
    if all(importlib.util.find_spec(package) is not None for package in packages):
        return None
    return f'pip install "pruning-spaces[{"openvino" if "openvino" in packages else "onnx"}]"'


def check_runtime(key: str, name: Any) -> None:
    """Check that a runtime is one of `RUNTIMES` and can be used here.

    Raises
    ------
    PruningError
        If it is not; where packages are missing the message has the command that installs them.
    """
    if not isinstance(name, str) or name not in RUNTIMES:
        raise unknown(key, name, RUNTIMES)
    if (command := missing(RUNTIMES[name][1])) is not None:
        raise PruningError(f"{key}: {name!r} needs packages that are not installed: {command}")
