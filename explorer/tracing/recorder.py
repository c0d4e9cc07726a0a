"""Recorder: runs under a model's forward pass and turns what really ran into a graph of tied channels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from explorer.tracing.calls import Call
from explorer.tracing.counting import multiplies_nothing, multiply_adds
from explorer.tracing.graph import NONE, OUTSIDE, Block, varying
from explorer.tracing.labelling import Labelling
from explorer.tracing.rules.operators import rule_for
from explorer.tracing.rules.unknown import unknown
from explorer.tracing.rules.weights import divided_by_norm, through_rows
from explorer.tracing.tape import Key, Operand, Tape

__all__ = ["Recorder"]


class Recorder(TorchDispatchMode):
    """What ran in a model: a tape of its operations, and what their rules made of the labelling.

    Parameters
    ----------
    labelling
        Labels of what goes in; the rules add to it.
    """

    def __init__(self, labelling: Labelling) -> None:
        super().__init__()
        self.labelling, self.tape = labelling, Tape()
        # modules that pad channels: name (nodes of the input's channels, of the output's)
        self.leaves: dict[str, tuple[Block, Block]] = {}
        self.ran: set[str] = set()
        # operators of which nobody knows whether they multiply with a parameter, and where the first one ran
        self.uncounted: dict[str, str] = {}
        self._stack: list[str] = []
        # how deep in modules that are followed as a whole
        self._silent = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        call, labelling = Call(func, name, tuple(args), kwargs, out), self.labelling
        labelling.begin(len(self.tape.steps))
        self._follow(call)
        labelling.counted(call)
        flops = 0 if self._silent else multiply_adds(call)
        if (
            not flops
            and not self._silent
            and not multiplies_nothing(call)
            and any(map(labelling.is_trained, call.tensors))
        ):
            self.uncounted.setdefault(str(func), labelling.module)
        if flops and labelling.counts and not labelling.explained:
            labelling.graph.products.append((labelling.module, flops, labelling.heads.numpy()))
        self.tape.record(call, _plain(name), labelling.name_of, labelling.module, flops)
        labelling.graph.step = OUTSIDE
        return out

    def _follow(self, call: Call) -> None:
        func, out, labelling = call.func, call.out, self.labelling
        if self._silent or not labelling.touched(call):
            labelling.copied(call)
            return
        # a write into part of another tensor relabels that tensor, which nothing here follows
        written_view = func._schema.is_mutable and any(
            t._base is not None and t.numel() < t._base.numel() for t in tree_leaves(out) if isinstance(t, Tensor)
        )
        labelling.fix_places(call.tensors)
        written = tree_leaves(out) if func._schema.is_mutable else ()
        if any(isinstance(t, Tensor) and labelling.is_trained(t) for t in written):
            # nothing that comes out of it depends on it, but the next run does
            labelling.graph.step = OUTSIDE
        rows = labelling.rows_of(call)
        try:
            if rows is not None:
                through_rows(labelling, call, rows)
            else:
                rule_for(func, _plain(call.name))(labelling, call)
        except Exception:
            # shapes that the rule was not made for
            unknown(labelling, call)
        if written_view:
            unknown(labelling, call)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Keep track of the running module, and treat modules that pad channels as leaves with an index map."""
        graph = self.labelling.graph
        running: list[tuple[Tensor | None, tuple[int, dict[Key, Operand]]]] = []

        def before(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._enter(name)
            self.ran.add(name)
            self._silent += type(module) is _SpectralNorm
            follow = _may_move_channels(module) and len(args) == 1 and isinstance(args[0], Tensor)
            labels = self.labelling.labels(args[0]) if follow else None
            opened = self.tape.open(_given(args, kwargs), self.labelling.labels)
            running.append((labels if labels is not None and varying(labels) == [1] else None, opened))

        def after(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            self._leave()
            if type(module) is _SpectralNorm:
                self._silent -= 1
                divided_by_norm(self.labelling, args[0], module._u, module._v, out, module.dim)
            labels, opened = running.pop()
            self.tape.close(name, opened, _given(args, kwargs), out, self.labelling.labels)
            if labels is None or not isinstance(out, Tensor) or out.dim() < 2:
                return
            moved = self.labelling.labels(out)
            if varying(moved) != [1] or (moved == NONE).sum() <= (labels == NONE).sum():
                return
            # all uses of a leaf share its index map
            block = graph.block(f"{name} input", 1, labels.size(1))
            written = graph.block(f"{name} output", 1, out.size(1))
            if (block.length, written.length) == (labels.size(1), out.size(1)):
                block.reads = True
                graph.tie(block.nodes, labels.reshape(-1))
                self.leaves[name] = (block, written)
                self.labelling.set(out, written.nodes.reshape([1, -1] + [1] * (out.dim() - 2)))

        def normed(hook: SpectralNorm, module: nn.Module, args: tuple[Any, ...]) -> None:
            self._silent -= 1
            source, u, v = (getattr(module, hook.name + end) for end in ("_orig", "_u", "_v"))
            divided_by_norm(self.labelling, source, u, v, getattr(module, hook.name), hook.dim)

        def silenced(module: nn.Module, args: tuple[Any, ...]) -> None:
            self._silent += 1

        handles = []
        for name, module in model.named_modules():
            for hook in [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, SpectralNorm)]:
                handles.append(module.register_forward_pre_hook(silenced, prepend=True))
                handles.append(module.register_forward_pre_hook(partial(normed, hook)))
            handles.append(module.register_forward_pre_hook(partial(before, name), with_kwargs=True))
            handles.append(module.register_forward_hook(partial(after, name), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: str) -> None:
        self._stack.append(module)
        self.labelling.module = module

    def _leave(self) -> None:
        self._stack.pop()
        self.labelling.module = self._stack[-1] if self._stack else ""


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Key, Any]:
    return dict([*enumerate(args), *kwargs.items()])


def _may_move_channels(module: nn.Module) -> bool:
    """Tell whether a module is a user's leaf without parameters (torch's own ones keep channels in place)."""
    own = type(module).__module__.startswith("torch.nn.")
    return not own and not any(True for _ in module.children()) and not module._parameters and not module._buffers


def _plain(name: str) -> str:
    """Return an operator's name without the mark of those that write in place."""
    return name if name == "copy_" else name.removesuffix("_")
