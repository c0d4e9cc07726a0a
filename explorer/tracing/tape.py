"""Tape: what ran, value by value, and the calls of modules it ran in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from explorer.tracing.calls import Call

__all__ = ["Frame", "Key", "Operand", "Output", "Step", "Tape", "tensors_in"]

Key = int | str
"""An argument of a call: its position or its keyword."""


@dataclass(frozen=True)
class Step:
    """One executed operation; a tensor is another value after every write to it.

    `operands` are the `inputs` that have dimensions. Parameters and buffers are no values but names, in `tensors`.
    `module` is the innermost one that was running.
    """

    func: torch._ops.OpOverload
    name: str
    inputs: tuple[int, ...]
    operands: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: tuple[str, ...]
    module: str
    flops: int


@dataclass(frozen=True)
class Operand:
    """A floating-point tensor that went into a module or came out of it."""

    value: int
    shape: torch.Size
    dtype: torch.dtype
    labels: Tensor


Output = Operand | Key | None | EllipsisType
"""Part of what a module returned: one of its arguments as its key, a new tensor, nothing, or something else."""


@dataclass(frozen=True)
class Frame:
    """One call of a module: the steps from `start` to before `end` ran in it.

    `kind` is what was returned: ``Tensor``, ``tuple``, ``list`` or the name of another class.
    """

    module: str
    start: int
    end: int
    arguments: dict[Key, Operand]
    outputs: tuple[Output, ...]
    kind: str

    def holds(self, name: str) -> bool:
        """Tell whether a module or tensor of that name lies in the module."""
        return name == self.module or name.startswith(self.module + ".")


class Tape:
    """Steps in order, and frames in the order in which they ended."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.frames: list[Frame] = []
        self._values = WeakTensorKeyDictionary()
        self._count = 0

    def value(self, tensor: Tensor) -> int:
        """Return the number of what a tensor holds now."""
        found = self._values.get(tensor)
        return self._renewed(tensor) if found is None else found

    def record(self, call: Call, name: str, name_of: Callable[[Tensor], str | None], module: str, flops: int) -> None:
        """Append a step; `name_of` gives the names of parameters and buffers."""
        inputs, tensors = [], []
        for tensor in call.tensors:
            named = name_of(tensor)
            if named is None:
                inputs.append(tensor)
            else:
                tensors.append(named)
        written = [leaf for leaf in tree_leaves(call.out) if isinstance(leaf, Tensor)]
        if call.func._schema.is_mutable:
            # who wrote to a part of a tensor wrote to the tensor
            bases = [t._base for t in written if t._base is not None]
            inputs += bases
            written += bases
        values = [self.value(tensor) for tensor in inputs]
        self.steps.append(
            Step(
                call.func,
                name,
                tuple(values),
                tuple(value for value, tensor in zip(values, inputs, strict=True) if tensor.dim()),
                tuple(self._renewed(tensor) for tensor in written),
                tuple(tensors),
                module,
                flops,
            )
        )

    def open(self, given: dict[Key, Any], labels: Callable[[Tensor], Tensor]) -> tuple[int, dict[Key, Operand]]:
        """Return the next step's number and the floating-point tensors among the arguments of a call that begins."""
        return len(self.steps), {key: self._operand(arg, labels) for key, arg in given.items() if _is_float(arg)}

    def close(
        self,
        module: str,
        opened: tuple[int, dict[Key, Operand]],
        given: dict[Key, Any],
        out: Any,
        labels: Callable[[Tensor], Tensor],
    ) -> None:
        """Append the frame of a call that returned `out`."""
        start, arguments = opened
        known = {operand.value: key for key, operand in reversed(arguments.items())}

        def output(part: Any) -> Output:
            if _is_float(part):
                operand = self._operand(part, labels)
                return known.get(operand.value, operand)
            return None if part is None else next((key for key, arg in given.items() if arg is part), ...)

        several = isinstance(out, tuple | list)
        parts = out if several else tensors_in(out)
        kind = type(out).__name__ if several or not isinstance(out, Tensor) else "Tensor"
        self.frames.append(Frame(module, start, len(self.steps), arguments, tuple(map(output, parts)), kind))

    def _operand(self, tensor: Tensor, labels: Callable[[Tensor], Tensor]) -> Operand:
        return Operand(self.value(tensor), tensor.shape, tensor.dtype, labels(tensor))

    def _renewed(self, tensor: Tensor) -> int:
        self._count += 1
        self._values[tensor] = self._count
        return self._count


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors of a model's input or output, in containers and in objects of any class."""
    found: list[Tensor] = []
    seen: set[int] = set()
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, Tensor):
            found.append(part)
        elif id(part) not in seen and not isinstance(part, str | bytes | type | nn.Module):
            seen.add(id(part))
            inner = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple | set) else ()
            slots = [getattr(part, name, None) for name in getattr(type(part), "__slots__", ())]
            rest += reversed([*inner, *getattr(part, "__dict__", {}).values(), *slots])
    return found


def _is_float(part: Any) -> bool:
    return isinstance(part, Tensor) and part.is_floating_point()
