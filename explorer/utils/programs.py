"""Programs: a module as torch.export and ONNX write it down, and an ONNX file as a module again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils._pytree import TreeSpec, tree_leaves, tree_map, tree_unflatten

from explorer.utils.modules import run, without_fused_layers
from explorer.utils.quiet import quiet
from spaces import PruningError, first_line

__all__ = ["OnnxModule", "Program", "difference", "program_of", "session_of", "write_onnx"]

_NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='([^']+)'")


def _inputs_of(example: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a model's inputs as positional and keyword arguments."""
    if isinstance(example, Mapping):
        return (), dict(example)
    return example if isinstance(example, tuple) else (example,), {}


def _repeated(example: Any, count: int) -> Any:
    """Return a batch of so many times one input: of a batch of one a program would know that there is one only."""

    def each(leaf: Any) -> Any:
        return torch.cat([leaf] * count) if isinstance(leaf, Tensor) and leaf.dim() else leaf

    return tree_map(each, example)


@dataclass(frozen=True, eq=False)
class Program:
    """A module as a program that needs none of its code.

    Attributes
    ----------
    exported
        What torch.export made of it.
    batches
        Whether it takes any number of inputs at a time; otherwise one.
    """

    exported: ExportedProgram
    batches: bool


def program_of(module: nn.Module, example: Any) -> Program:
    """Return a module in eval mode as a program.

    Parameters
    ----------
    module
        Not changed.
    example
        One input. Its other dimensions than the batch are the program's.

    Raises
    ------
    PruningError
        If the module's code cannot be written down as a program, in one line.
    """
    batch = {0: torch.export.Dim.AUTO}
    args, kwargs = _inputs_of(_repeated(example, 2))
    shapes = tree_map(lambda leaf: batch if isinstance(leaf, Tensor) and leaf.dim() else None, (args, kwargs))
    try:
        with quiet(), torch.no_grad(), without_fused_layers():
            # arguments by position come first, as the signature has them
            exported, batches = torch.export.export(module, args, kwargs, dynamic_shapes=shapes[1] or shapes[0]), True
            try:
                run(exported.module(), _repeated(example, 3))
            except Exception:
                # the model's code made a number of the batch's size
                exported, batches = torch.export.export(module, *_inputs_of(_repeated(example, 1))), False
    except Exception as error:
        line = first_line(error)[:200] or type(error).__name__
        raise PruningError(f"program: torch.export can't write the module down ({line})") from None
    for node in exported.graph.nodes:
        # where in whose files each operator was called
        node.meta.pop("stack_trace", None)
    return Program(exported, batches)


def write_onnx(program: Program, path: Path) -> None:
    """Write a program as an ONNX file, weights inside it.

    Raises
    ------
    PruningError
        If it uses an operator that ONNX has not, which the error names.
    """
    try:
        with quiet():
            made = torch.onnx.export(program.exported, dynamo=True, verbose=False)
            assert made is not None
            graph: Any = made.model.graph
            # what torch calls everything, and where in whose files each operator was called: a quarter of a small file
            for part in (made.model, graph, *graph.inputs, *graph.outputs, *graph.all_nodes()):
                part.metadata_props.clear()
            made.save(str(path))
    except Exception as error:
        raise PruningError(f"onnx: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """Return why a program is no ONNX file: by the operator, where one is to blame."""
    chain: BaseException | None = error
    while chain is not None:
        if (match := _NO_FUNCTION.search(str(chain))) is not None:
            return f"it has no operator for torch's {match[1]}"
        last, chain = chain, chain.__cause__ or chain.__context__
    return f"the program can't be converted ({first_line(last)[:200] or type(last).__name__})"


def session_of(model: Path | bytes) -> Any:
    """Return ONNX Runtime's session of a model, on the CPU with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = torch.get_num_threads()
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class OnnxModule(nn.Module):
    """An ONNX file as a module that takes and gives what the module did that it was made of, on the CPU.

    Parameters
    ----------
    path
        The file.
    program
        What it was written from.
    """

    def __init__(self, path: Path, program: Program) -> None:
        super().__init__()
        self.session = session_of(path)
        self.batches = program.batches
        spec = program.exported.call_spec.out_spec
        assert spec is not None
        self._outputs: TreeSpec = spec
        self._inputs = [entry.name for entry in self.session.get_inputs()]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return the outputs as tensors; where the file takes one input at a time, of one after the other."""
        named = self._named(args, kwargs)
        if self.batches:
            return self._run(named)
        singles = [
            self._run({name: array[i : i + 1] for name, array in named.items()})
            for i in range(len(next(iter(named.values()))))
        ]
        return tree_map(lambda *leaves: torch.cat(leaves), *singles)

    def named(self, inputs: Any) -> dict[str, npt.NDArray[Any]]:
        """Return inputs of the module as the session takes them: arrays by name."""
        return self._named(*_inputs_of(inputs))

    def _named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, npt.NDArray[Any]]:
        if not args and set(self._inputs) <= set(kwargs):
            return {name: _array(kwargs[name]) for name in self._inputs}
        leaves = [leaf for leaf in tree_leaves((args, dict(kwargs))) if isinstance(leaf, Tensor)]
        return {name: _array(leaf) for name, leaf in zip(self._inputs, leaves, strict=True)}

    def _run(self, named: Mapping[str, npt.NDArray[Any]]) -> Any:
        tensors: Sequence[Tensor] = [torch.from_numpy(array) for array in self.session.run(None, dict(named))]
        return tree_unflatten(list(tensors), self._outputs)


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


def difference(found: Any, expected: Any) -> float:
    """Return the greatest difference of two outputs relative to the greatest expected value; infinite where NaN is."""
    worst = 0.0
    for ours, theirs in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        if isinstance(theirs, Tensor) and theirs.numel():
            wanted = theirs.detach().double()
            value = float((ours.detach().double() - wanted).abs().max() / wanted.abs().max().clamp_min(1e-12))
            worst = max(worst, float("inf") if value != value else value)
    return worst
