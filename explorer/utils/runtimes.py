"""Runtimes: what runs a network where its latency counts, each a function from a module and inputs to a run of it."""

from __future__ import annotations

import copy
import importlib
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from explorer.utils.modules import device_of, run
from explorer.utils.programs import OnnxModule, program_of, write_onnx
from explorer.utils.quiet import quiet
from spaces import PruningError, first_line

__all__ = ["Ready", "openvino_ready", "ready"]

Ready = Callable[[Any], Callable[[], object]]
"""From a batch of inputs to what runs a network on it once."""


def ready(runtime: str, module: nn.Module, example: Any) -> Ready:
    """Return a module made ready in a runtime: from inputs it gives what runs the module on them once, to be timed.

    Parameters
    ----------
    runtime
        One of `explorer.utils.runtime_names.RUNTIMES`: ``torch`` and ``compile`` run on the module's device, the others
        on the CPU with as many threads as torch has.
    module
        In eval mode; it stays as it is.
    example
        A tensor, a tuple of positional or a mapping of keyword arguments, on the module's device. Inputs may be more at
        a time, but alike otherwise.

    Raises
    ------
    PruningError
        If the runtime can't run the module, in one line.

    Examples
    --------
    >>> run_once = ready("torch", nn.Linear(4, 2).eval(), torch.ones(1, 4))(torch.ones(8, 4))
    >>> run_once()
    """
    return _READY[runtime](module, example)


def _torch(module: nn.Module, example: Any) -> Ready:
    device = device_of(module)

    def of(inputs: Any) -> Callable[[], object]:
        def once() -> None:
            run(module, inputs)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return once

    return of


def _compiled(module: nn.Module, example: Any) -> Ready:
    try:
        with quiet(), torch.inference_mode():
            compiled: Any = torch.compile(module)
            run(compiled, example)
    except Exception as error:
        raise PruningError(f"latency.runtime: compile: {first_line(error)[:200] or type(error).__name__}") from None
    return _torch(compiled, example)


def _onnxruntime(module: nn.Module, example: Any) -> Ready:
    with tempfile.TemporaryDirectory() as folder:
        found = _onnx(module, example, Path(folder) / "model.onnx")

    def of(inputs: Any) -> Callable[[], object]:
        named = found.named(inputs)
        return (lambda: found.session.run(None, named)) if found.batches else (lambda: run(found, inputs))

    return of


def _openvino(module: nn.Module, example: Any) -> Ready:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        found = _onnx(module, example, path)
        return openvino_ready(path, found)


def openvino_ready(path: Path, onnx: OnnxModule) -> Ready:
    """Return an ONNX file, or one of OpenVINO's own, made ready in OpenVINO, on the CPU with torch's threads.

    Parameters
    ----------
    path
        The file.
    onnx
        The same network in ONNX Runtime, which knows the names of its inputs.
    """
    openvino = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    request = compiled.create_infer_request()

    def of(inputs: Any) -> Callable[[], object]:
        named = onnx.named(inputs)
        return lambda: request.infer(named)

    return of


def _onnx(module: nn.Module, example: Any, path: Path) -> OnnxModule:
    """Write a copy of a module on the CPU as an ONNX file, and return it read back."""
    if device_of(module).type != "cpu":
        module = copy.deepcopy(module).cpu()
    one = tree_map(lambda leaf: leaf[:1].cpu() if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf, example)
    program = program_of(module, one)
    write_onnx(program, path)
    return OnnxModule(path, program)


_READY: Mapping[str, Callable[[nn.Module, Any], Ready]] = {
    "torch": _torch,
    "compile": _compiled,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
