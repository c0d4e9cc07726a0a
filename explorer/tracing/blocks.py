"""Which modules are residual blocks that can be dropped, found on the tape of one run.

A block's output is reached from one of its arguments by additions, with nothing but activations, norms and views
on the way, and at least one of these additions is its own: no block below it made it.
"""

# ruff: noqa: SIM905 - long lists of names read better as text
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from explorer.tracing.tape import Frame, Key, Operand, Step, Tape
from spaces import BlockUnit, FixedBlock

__all__ = ["Judge", "find_blocks", "live"]

_PASSING = set(
    """
    _native_batch_norm_legit_no_training _reshape_alias _to_copy _unsafe_view alias clone contiguous
    cudnn_batch_norm detach dropout expand flatten mean miopen_batch_norm movedim native_batch_norm
    native_dropout native_group_norm native_layer_norm permute reshape squeeze swapaxes t transpose unflatten
    unsqueeze var view
    """.split()
)
_ALONE = "one of its arguments is computed for it alone"


def find_blocks(
    tape: Tape, model: nn.Module, alike: Callable[[Tensor, Tensor], bool], results: Iterable[int]
) -> tuple[tuple[BlockUnit, ...], tuple[FixedBlock, ...]]:
    """Return the blocks that can be dropped, and those that cannot with the reason, in order of execution.

    Parameters
    ----------
    tape
        What ran.
    model
        The model that ran.
    alike
        Tells of two arrays of labels whether they always keep the same channels.
    results
        The values that the model returned.
    """
    judge = Judge(tape, model, alike, set(results))
    claimed: set[int] = set()
    found: dict[str, BlockUnit | FixedBlock] = {}
    for frame in tape.frames:
        # without the whole model nothing would be left
        residual = _residual(tape.steps, frame, claimed) if frame.module else None
        if residual is not None:
            block = found[frame.module] = judge(frame, residual)
            # where the branch comes from outside it is the caller who is residual (Hugging Face's BertSelfOutput)
            if block != FixedBlock(frame.module, _ALONE):
                claimed |= residual.own
    start = {frame.module: frame.start for frame in reversed(tape.frames)}
    blocks = sorted(found.values(), key=lambda block: (start[block.name], len(block.name)))
    return (
        tuple(block for block in blocks if isinstance(block, BlockUnit)),
        tuple(block for block in blocks if isinstance(block, FixedBlock)),
    )


@dataclass(frozen=True)
class _Reach:
    """How a value came about in a call.

    `paths` are the arguments it is reached from by additions, activations, norms and views, with the call's own
    additions on the way; `joins` its own additions that are followed by no layer and join two branches of one
    argument; `sources` all arguments it depends on; `made` tells whether a layer made any of it.
    """

    paths: dict[Key, frozenset[int]]
    joins: frozenset[int] = frozenset()
    sources: frozenset[Key] = frozenset()
    made: bool = False


_NOTHING = _Reach({})


@dataclass(frozen=True)
class _Residual:
    """A call that adds: which output, from which arguments (none: it has no shortcut without layers)."""

    output: Operand
    keys: tuple[Key, ...]
    own: frozenset[int]


def _residual(steps: list[Step], frame: Frame, claimed: set[int]) -> _Residual | None:
    """Return what is residual in a call; the additions in `claimed` are those of blocks below."""
    reach: dict[int, _Reach] = {}
    for key, operand in frame.arguments.items():
        reach.setdefault(operand.value, _Reach({key: frozenset()}, sources=frozenset([key])))
    for number in range(frame.start, frame.end):
        step = steps[number]
        after = _after(step, [reach.get(value, _NOTHING) for value in step.inputs], reach, number, claimed)
        reach.update(dict.fromkeys(step.outputs, after))
    shortcuts: list[_Residual] = []
    joins: list[_Residual] = []
    for output in frame.outputs:
        if isinstance(output, Operand):
            came = reach.get(output.value, _NOTHING)
            keys = tuple(key for key, own in came.paths.items() if own)
            own = came.joins.union(*came.paths.values())
            (shortcuts if keys else joins if own else []).append(_Residual(output, keys, own))
    return next(iter(shortcuts or joins), None)


def _after(step: Step, inputs: list[_Reach], reach: dict[int, _Reach], number: int, claimed: set[int]) -> _Reach:
    """Return how the outputs of one operation came about."""
    sources = frozenset[Key]().union(*(came.sources for came in inputs))
    made = bool(step.flops) or any(came.made for came in inputs)
    operands = [reach.get(value, _NOTHING) for value in step.operands]
    paths: dict[Key, frozenset[int]] = {}
    joins = frozenset[int]()
    if step.name == "add" and len(operands) > 1:
        own = frozenset() if number in claimed else frozenset([number])
        for place, came in enumerate(operands):
            others = operands[:place] + operands[place + 1 :]
            added = own if any(other.made for other in others) else frozenset[int]()
            for key, before in came.paths.items():
                paths[key] = paths.get(key, frozenset()) | before | added
        joins = joins.union(*(came.joins for came in operands))
        if made and operands[0].sources & operands[1].sources:
            joins |= own
    elif operands and _passes(step) and all(came.paths == operands[0].paths for came in operands):
        paths, joins = operands[0].paths, operands[0].joins
    return _Reach(paths, joins, sources, made)


def _passes(step: Step) -> bool:
    return step.name in _PASSING or torch.Tag.pointwise in step.func.tags


class Judge:
    """Decides whether a residual call can be dropped."""

    def __init__(
        self, tape: Tape, model: nn.Module, alike: Callable[[Tensor, Tensor], bool], results: set[int]
    ) -> None:
        self._steps, self._alike, self._results = tape.steps, alike, results
        self._calls = Counter(frame.module for frame in tape.frames)
        self._live = live(self._steps, results)
        names: dict[int, list[str]] = {}
        for named in (model.named_parameters, model.named_buffers):
            for name, tensor in named(remove_duplicate=False):
                names.setdefault(id(tensor), []).append(name)
        self._shared = [places for places in names.values() if len(places) > 1]
        self._weights = {name for name, _ in model.named_parameters()}

    def __call__(self, frame: Frame, residual: _Residual) -> BlockUnit | FixedBlock:
        output = residual.output
        key, reason = self._shortcut(frame, residual)
        reason = reason or self.structure(frame, output) or self.elsewhere(frame) or self.waste(frame, key, output)
        if reason:
            return FixedBlock(frame.module, reason)
        return BlockUnit(frame.module, self.returns(frame, output, key))

    def returns(self, frame: Frame, output: Operand, key: Key) -> Key | tuple[Key | None, ...]:
        """Return what a skip returns that has the argument in place of the output."""
        if frame.kind == "Tensor":
            return key
        return tuple(key if part is output else part for part in frame.outputs)  # type: ignore[misc]

    def alike(self, frame: Frame, key: Key, output: Operand) -> bool:
        """Tell whether an argument always has the channels of an output."""
        return self._alike(frame.arguments[key].labels, output.labels)

    def fitting(self, frame: Frame, output: Operand) -> list[Key]:
        """Return the arguments that have the shape and type of an output."""
        given = frame.arguments.items()
        return [key for key, arg in given if (arg.shape, arg.dtype) == (output.shape, output.dtype)]

    def _shortcut(self, frame: Frame, residual: _Residual) -> tuple[Key, str]:
        """Return the argument that the call can return instead, or why there is none."""
        output, fitting = residual.output, self.fitting(frame, residual.output)
        if not fitting:
            return 0, "changes the shape"
        keys = [key for key in residual.keys if key in fitting]
        if not keys:
            return 0, "its shortcut is computed"
        if not self.alike(frame, keys[0], output):
            return 0, "its channels come out in another order"
        return keys[0], ""

    def structure(self, frame: Frame, output: Operand) -> str:
        """Return why a skip cannot return what the call returns, or nothing."""
        if frame.kind not in ("Tensor", "tuple", "list"):
            return f"returns a {frame.kind}"
        rest = [part for part in frame.outputs if part is not output]
        return "returns other things that it computes" if any(isinstance(p, Operand) or p is ... for p in rest) else ""

    def elsewhere(self, frame: Frame) -> str:
        """Return what of the block lies or runs outside of it, or nothing."""
        if self._calls[frame.module] > 1:
            return f"runs {self._calls[frame.module]} times"
        for places in self._shared:
            inside = [frame.holds(place) for place in places]
            if any(inside) and not all(inside):
                return f"shares a weight with {places[inside.index(False)]}"
        for number, step in enumerate(self._steps):
            running = frame.start <= number < frame.end
            used = [name for name in step.tensors if name in self._weights] + [step.module] * bool(step.flops)
            for name in used:
                if frame.holds(name) != running:
                    return f"uses {name}, which lies elsewhere" if running else f"{name} is also used outside of it"
        return ""

    def waste(self, frame: Frame, key: Key, output: Operand) -> str:
        """Return that layers before the block work for it alone, or nothing."""
        skip = {output.value: frame.arguments[key].value}
        rest = live(self._steps, self._results, range(frame.start, frame.end), skip)
        lost = (n for n in self._live - rest if self._steps[n].flops and not frame.start <= n < frame.end)
        return _ALONE if any(True for _ in lost) else ""


def live(
    steps: list[Step],
    results: Iterable[int],
    without: range = range(0),
    instead: Mapping[int, int] = MappingProxyType({}),
) -> set[int]:
    """Return the numbers of the steps that the results depend on, or code that asks for a tensor's values.

    The steps `without` are left out; a value they make and that is a key of `instead` is replaced by another.
    """
    wanted, found = set(results), set[int]()
    for number in range(len(steps) - 1, -1, -1):
        if number in without:
            wanted |= {value for made, value in instead.items() if made in wanted}
        elif not steps[number].outputs or not wanted.isdisjoint(steps[number].outputs):
            wanted.update(steps[number].inputs)
            found.add(number)
    return found
