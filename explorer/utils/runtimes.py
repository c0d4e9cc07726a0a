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

__all__ = ["forward_of", "openvino_forward"]

Forward = Callable[[], object]


def forward_of(runtime: str, module: nn.Module, inputs: Any) -> Forward:
    """Return what runs a module on a batch of inputs once.

    Parameters
    ----------
    runtime
        One of `explorer.utils.runtime_names.RUNTIMES`: ``torch`` and ``compile`` run on the module's device, the others
        on the CPU with as many threads as torch has.
    module
        In eval mode; it stays as it is.
    inputs
        A tensor, a tuple of positional or a mapping of keyword arguments, on the module's device.

    Raises
    ------
    PruningError
        If the runtime can't run the module, in one line.
    """
    return _FORWARD[runtime](module, inputs)


def _torch(module: nn.Module, inputs: Any) -> Forward:
    device = device_of(module)

    def once() -> None:
        run(module, inputs)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return once


def _compiled(module: nn.Module, inputs: Any) -> Forward:
    try:
        with quiet(), torch.inference_mode():
            compiled: Any = torch.compile(module)
            run(compiled, inputs)
    except Exception as error:
        raise PruningError(f"latency.runtime: compile: {first_line(error)[:200] or type(error).__name__}") from None
    return _torch(compiled, inputs)


def _onnxruntime(module: nn.Module, inputs: Any) -> Forward:
    with tempfile.TemporaryDirectory() as folder:
        found = _onnx(module, inputs, Path(folder) / "model.onnx")
    named = found.named(inputs)
    if found.batches:
        return lambda: found.session.run(None, named)
    return lambda: found(inputs)


def _openvino(module: nn.Module, inputs: Any) -> Forward:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        return openvino_forward(path, _onnx(module, inputs, path).named(inputs))


def openvino_forward(path: Path, named: Mapping[str, Any]) -> Forward:
    """Return what runs an ONNX file, or OpenVINO's own, on arrays by name once, on the CPU with torch's threads."""
    openvino = importlib.import_module("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    request = compiled.create_infer_request()
    return lambda: request.infer(dict(named))


def _onnx(module: nn.Module, inputs: Any, path: Path) -> OnnxModule:
    """Write a copy of a module on the CPU as an ONNX file, and return it read back."""
    if device_of(module).type != "cpu":
        module = copy.deepcopy(module).cpu()
    one = tree_map(lambda leaf: leaf[:1].cpu() if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf, inputs)
    program = program_of(module, one)
    write_onnx(program, path)
    return OnnxModule(path, program)


_FORWARD: Mapping[str, Callable[[nn.Module, Any], Forward]] = {
    "torch": _torch,
    "compile": _compiled,
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
