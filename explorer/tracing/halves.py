"""Which modules are halves of blocks: what they return is only added to a residual, so that they can go alone.

Of a transformer whose norms come first that is the attention and the MLP of every block.
"""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from torch import Tensor, nn

from explorer.tracing.blocks import Judge
from explorer.tracing.tape import Frame, Operand, Step, Tape
from spaces import BlockUnit

__all__ = ["find_halves"]

# operations of which zeros come out where zeros go in, and nothing else goes in
_ZERO = set(
    """
    _reshape_alias _to_copy _unsafe_view alias clone contiguous detach dropout expand flatten movedim native_dropout
    permute reshape squeeze swapaxes t transpose unflatten unsqueeze view
    """.split()
)


def find_halves(
    tape: Tape,
    model: nn.Module,
    alike: Callable[[Tensor, Tensor], bool],
    results: Iterable[int],
    blocks: Collection[BlockUnit],
) -> tuple[BlockUnit, ...]:
    """Return the modules whose output is only added to something, in order of execution.

    One that has all the layers of a block, or of another half, is none: it would be dropped by another name.

    Parameters
    ----------
    tape, model, alike, results
        As `explorer.tracing.blocks.find_blocks` takes them.
    blocks
        Those that can be dropped.
    """
    results = set(results)
    judge = Judge(tape, model, alike, results)
    names = {block.name for block in blocks}
    taken = {_layers(tape.steps, frame) for frame in tape.frames if frame.module in names}
    found = []
    # what holds others comes before them
    for frame in sorted(tape.frames, key=lambda frame: (frame.start, -frame.end, len(frame.module))):
        layers = _layers(tape.steps, frame)
        half = _half(tape.steps, frame, judge, results) if frame.module and layers and layers not in taken else None
        if half is not None:
            found.append(half)
            taken.add(layers)
    return tuple(found)


def _layers(steps: list[Step], frame: Frame) -> frozenset[int]:
    """Return the steps of a call that multiply."""
    return frozenset(number for number in range(frame.start, frame.end) if steps[number].flops)


def _half(steps: list[Step], frame: Frame, judge: Judge, results: set[int]) -> BlockUnit | None:
    outputs = [part for part in frame.outputs if isinstance(part, Operand)]
    if len(outputs) != 1 or not _only_added(steps[frame.end :], outputs[0].value, results):
        return None
    output = outputs[0]
    keys = [key for key in judge.fitting(frame, output) if judge.alike(frame, key, output)]
    if not keys or judge.structure(frame, output) or judge.elsewhere(frame) or judge.waste(frame, keys[0], output):
        return None
    return BlockUnit(frame.module, judge.returns(frame, output, keys[0]), adds=True)


def _only_added(steps: list[Step], value: int, results: set[int]) -> bool:
    """Tell whether zeros in a value's place would be read by additions to something else alone."""
    values, added = {value}, False
    for step in steps:
        mine = values.intersection(step.inputs)
        if mine and step.name == "add" and len(step.operands) == 2 and not values.issuperset(step.operands):
            added = True
        elif mine and step.name in _ZERO and values.issuperset(step.inputs):
            values.update(step.outputs)
        elif mine:
            return False
    return added and values.isdisjoint(results)
