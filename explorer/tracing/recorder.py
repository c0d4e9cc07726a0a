"""Recorder: runs under a model's forward pass and turns what really ran into a graph of tied channels."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count
from torch.utils.weak import WeakTensorKeyDictionary

from explorer.tracing.graph import INPUT, NONE, OUTSIDE, Block, Graph, Reduced, Use, varying
from explorer.tracing.parameters import Part, parts_of_views
from explorer.tracing.reductions import ARGUMENTS, COUNTED_AS
from explorer.tracing.rules.calls import Call, unknown
from explorer.tracing.rules.operators import rule_for
from explorer.tracing.tape import Key, Operand, Tape, tensors_in

__all__ = ["Recorder", "tensors_in"]

_NO_HEADS = torch.empty(0, dtype=torch.int64)


class Recorder(TorchDispatchMode):
    """Labels of every live activation, and of parameters seen through transposes and added dimensions.

    Parameters
    ----------
    model
        The model that will run.
    batch
        Inputs in the example batch, by which counted positions are divided.
    """

    def __init__(self, model: nn.Module, batch: int) -> None:
        super().__init__()
        self.graph, self.tape = Graph(), Tape()
        self.batch = batch
        self.leaves: dict[str, tuple[Block, Block]] = {}
        # the nodes whose products the running operation makes
        self.heads = _NO_HEADS
        self._explained = False
        self.ran: set[str] = set()
        # sums over channels: value (what was recorded of it, entries that were added)
        self.sums = WeakTensorKeyDictionary()
        # places of channels among others: value (their labels, why they cannot be pruned if this is used)
        self.places = WeakTensorKeyDictionary()
        self._reduced: Counter[tuple[str, str]] = Counter()
        self._labels = WeakTensorKeyDictionary()
        # value: (tensor name, for every dimension of this view what it is of the parameter)
        self._parameters = WeakTensorKeyDictionary()
        self._buffers = {name for name, _ in model.named_buffers()}
        self._shapes: dict[str, torch.Size] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._shapes[name] = tensor.shape
            self._parameters[tensor] = (name, tuple(Part(dim, 0, n) for dim, n in enumerate(tensor.shape)))
        self._stack: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        name = func.overloadpacket.__name__
        call = Call(func, name, tuple(args), kwargs, out)
        self.graph.step, self._explained, self.heads = len(self.tape.steps), False, _NO_HEADS
        self._follow(call)
        if name in ARGUMENTS:
            self._reduced[self.module, COUNTED_AS.get(name, name)] += 1
        flops = _flops(call) // self.batch
        if flops and not self._explained:
            self.graph.products.append((self.module, flops, self.heads.numpy()))
        self.tape.record(call, _plain(name), self._name_of, self.module, flops)
        self.graph.step = OUTSIDE
        return out

    def _follow(self, call: Call) -> None:
        func, name, out = call.func, call.name, call.out
        if not any(self._parameters.get(t) or t in self._labels for t in call.tensors):
            return
        # a write into part of another tensor relabels that tensor, which nothing here follows
        written_view = func._schema.is_mutable and any(
            t._base is not None and t.numel() < t._base.numel() for t in tree_leaves(out) if isinstance(t, Tensor)
        )
        self._fix_places(call.tensors)
        written = tree_leaves(out) if func._schema.is_mutable else ()
        if any(isinstance(t, Tensor) and self.is_parameter(t) and self._trained(t) for t in written):
            # nothing that comes out of it depends on it, but the next run does
            self.graph.step = OUTSIDE
        try:
            rule_for(func, _plain(name))(self, call)
        except Exception:
            # shapes that the rule was not made for
            unknown(self, call)
        if written_view:
            unknown(self, call)

    @property
    def module(self) -> str:
        """The innermost module that is running."""
        return self._stack[-1] if self._stack else ""

    def where(self) -> str:
        """Return " in MODULE" for the innermost module that is running, for reasons."""
        return f" in {self.module}" if self.module else ""

    def set(self, tensor: Tensor, labels: Tensor) -> None:
        """Label an activation; `labels` must be broadcastable to it."""
        self._labels[tensor] = labels

    def labels(self, tensor: Tensor) -> Tensor:
        """Return an activation's compact labels, one dimension a tensor dimension."""
        found = self._labels.get(tensor)
        return torch.full((1,) * tensor.dim(), NONE) if found is None else found

    def whole_labels(self, tensor: Tensor, along: Iterable[int] = ()) -> Tensor:
        """Return labels of the tensor's full shape; those of a parameter are as `data_labels` gives them."""
        if self.is_parameter(tensor):
            return self.data_labels(tensor, along).expand(tensor.shape).contiguous()
        # contiguous, so that whatever view the tensor allows its labels allow
        return self.labels(tensor).expand(tensor.shape).contiguous()

    def data_labels(self, tensor: Tensor, along: Iterable[int] = ()) -> Tensor:
        """Return labels of a parameter that is computed with as activations are, like the embedding of positions.

        They vary along one dimension; along any other the parameter is fixed.

        Parameters
        ----------
        tensor
            The parameter.
        along
            Dimensions along which channels lie in what it is combined with.
        """
        name, parts = self._parameters[tensor]
        long = [dim for dim, part in enumerate(parts) if part is not None and tensor.size(dim) > 1]
        if not long:
            return torch.full((1,) * tensor.dim(), NONE)
        reason = f"an entry of a parameter is asked for{self.where()}"
        if len(long) > 1 and name in self._buffers:
            # a table of constants; none of its dimensions need be channels
            self.fix(tensor, reason)
            return torch.full((1,) * tensor.dim(), self.graph.node(reason))
        fitting = [dim for dim in along if dim in long] or [1] * (tensor.dim() == 4 and 1 in long) or long[-1:]
        for dim in long:
            if dim != fitting[0]:
                self.graph.fix(self.parameter_nodes(tensor, dim), reason)
        return self.parameter_labels(tensor, fitting[0], tensor.dim(), 0)

    def channel_labels(self, tensor: Tensor, dim: int) -> Tensor:
        """Return labels along one dimension as a vector; channels that also vary elsewhere are fixed."""
        labels = self.labels(tensor)
        if [d for d in varying(labels) if d != dim]:
            reason = f"channels lie along several dimensions{self.where()}"
            self.graph.fix(labels, reason)
            return torch.full((tensor.size(dim),), self.graph.node(reason))
        return labels.reshape(-1).expand(tensor.size(dim))

    def fix(self, tensor: Tensor, reason: str) -> None:
        """Fix all channels an activation or a parameter carries."""
        self.graph.fix(self.labels(tensor), reason)
        if self.is_parameter(tensor):
            for dim in range(tensor.dim()):
                if self._parameters[tensor][1][dim] is not None:
                    self.graph.fix(self.parameter_nodes(tensor, dim), reason)

    def join(self, labels: Tensor, dims: Iterable[int], reason: str) -> None:
        """Tie channels along dimensions that are computed with as a whole.

        Channels that lie along other dimensions too, heads for example, can still leave group by group; without
        groups all are fixed for the reason.
        """
        over = varying(labels, dims)
        if over and len(over) == len(varying(labels)):
            self.graph.fix(labels, reason)
        elif over:
            first = labels
            for dim in over:
                first = first.narrow(dim, 0, 1)
            self.graph.tie(first, labels)

    def reduces(self, call: Call, axis: int, labels: Tensor) -> None:
        """Record that the running operation runs over these channels as a whole."""
        name = COUNTED_AS.get(call.name, call.name)
        number = self._reduced[self.module, name]
        self.graph.reductions.append(Reduced(self.module, name, number, axis, labels.numpy()))

    def multiplied(self, weight: Tensor, kind: str, positions: int, groups: int = 1) -> None:
        """Record that a layer with this weight ran; that explains its multiply-adds."""
        self._explained = True
        name, parts = self._parameters[weight]
        cut = () if self.is_whole(weight) else tuple((start, length) for _, start, length in sorted(parts))
        self.graph.ran(name, Use(kind, positions, groups, self.module, cut))

    def is_parameter(self, tensor: Tensor) -> bool:
        return tensor in self._parameters and tensor not in self._labels

    def _name_of(self, tensor: Tensor) -> str | None:
        return self.parameter_name(tensor) if self.is_parameter(tensor) else None

    def _trained(self, tensor: Tensor) -> bool:
        return self.parameter_name(tensor) not in self._buffers

    def parameter_name(self, tensor: Tensor) -> str:
        return self._parameters[tensor][0]

    def is_weight(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is a parameter with its own dimensions, of which a part may have been cut off."""
        return self.is_parameter(tensor) and None not in self._parameters[tensor][1]

    def is_whole(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is a parameter with its own dimensions, of which nothing was cut off."""
        return self.is_weight(tensor) and tensor.numel() == math.prod(self._shapes[self.parameter_name(tensor)])

    def parameter_block(self, tensor: Tensor, dim: int, length: int | None = None) -> Block:
        """Return the nodes of the parameter dimension that is dimension `dim` of this view of it."""
        name, parts = self._parameters[tensor]
        own = parts[dim][0]
        return self.graph.block(name, own, self._shapes[name][own] if length is None else length)

    def parameter_nodes(self, tensor: Tensor, dim: int) -> Tensor:
        """Return the nodes of what dimension `dim` of this view holds of the parameter's dimension."""
        part = self._parameters[tensor][1][dim]
        if part is None:
            return torch.tensor([self.graph.node(f"an added dimension of a parameter{self.where()}")])
        return self.parameter_block(tensor, dim).nodes[part.start : part.start + part.length]

    def parameter_labels(self, tensor: Tensor, dim: int, ndim: int, offset: int) -> Tensor:
        """Return the nodes of one dimension shaped to broadcast in an `ndim`-dimensional operation."""
        return self.parameter_nodes(tensor, dim).reshape([-1 if d == dim + offset else 1 for d in range(ndim)])

    def moved_parameter(self, call: Call, tensor: Tensor) -> bool:
        """Follow a view of a parameter; tell whether it is one, and nothing that is computed from the parameter."""
        name, parts = self._parameters[tensor]
        moved = parts_of_views(call, tensor, parts)
        for view, kept in zip(tree_leaves(call.out), moved or (), strict=bool(moved)):
            self._parameters[view] = (name, kept)
        return moved is not None

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Keep track of the running module, and treat modules that pad channels as leaves with an index map."""
        running: list[tuple[Tensor | None, tuple[int, dict[Key, Operand]]]] = []

        def before(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._stack.append(name)
            self.ran.add(name)
            follow = _may_move_channels(module) and len(args) == 1 and isinstance(args[0], Tensor)
            labels = self.labels(args[0]) if follow else None
            opened = self.tape.open(_given(args, kwargs), self.labels)
            running.append((labels if labels is not None and varying(labels) == [1] else None, opened))

        def after(name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
            self._stack.pop()
            labels, opened = running.pop()
            self.tape.close(name, opened, _given(args, kwargs), out, self.labels)
            if labels is None or not isinstance(out, Tensor) or out.dim() < 2:
                return
            moved = self.labels(out)
            if varying(moved) != [1] or (moved == NONE).sum() <= (labels == NONE).sum():
                return
            # all uses of a leaf share its index map
            block = self.graph.block(f"{name} input", 1, labels.size(1))
            written = self.graph.block(f"{name} output", 1, out.size(1))
            if (block.length, written.length) == (labels.size(1), out.size(1)):
                block.reads = True
                self.graph.tie(block.nodes, labels.reshape(-1))
                self.leaves[name] = (block, written)
                self.set(out, written.nodes.reshape([1, -1] + [1] * (out.dim() - 2)))

        handles = []
        for name, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(partial(before, name), with_kwargs=True))
            handles.append(module.register_forward_hook(partial(after, name), with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _fix_places(self, used: Iterable[Tensor]) -> None:
        """Fix the channels of which it is asked at which place they are."""
        for tensor in used:
            for labels, reason in (self.places[tensor],) if tensor in self.places else ():
                self.graph.fix(labels, reason)

    def label_input(self, example: Any) -> None:
        """Give everything that comes from outside the one input label."""
        for leaf in tree_leaves(example):
            if isinstance(leaf, Tensor):
                self.set(leaf, torch.full((1,) * leaf.dim(), INPUT))
        self.graph.fix(torch.tensor([INPUT]), "tied to the model's input")

    def fix_output(self, output: Any) -> None:
        """Fix every channel that the model returns."""
        self._fix_places(tensors_in(output))
        for leaf in tensors_in(output):
            self.fix(leaf, "tied to the model's output")


def _given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Key, Any]:
    return dict([*enumerate(args), *kwargs.items()])


def _may_move_channels(module: nn.Module) -> bool:
    """Tell whether a module is a user's leaf without parameters (torch's own ones keep channels in place)."""
    own = type(module).__module__.startswith("torch.nn.")
    return not own and not any(True for _ in module.children()) and not module._parameters and not module._buffers


def _flops(call: Call) -> int:
    """Return the multiply-adds of a matrix product, convolution or fused attention; 0 for anything else."""
    count = flop_registry.get(call.func.overloadpacket)
    if count is not None:
        return int(count(*call.args, **call.kwargs, out_val=call.out)) // 2
    if "scaled_dot_product" in call.name and "backward" not in call.name:
        return int(sdpa_flop_count(*(call[name].shape for name in ("query", "key", "value")))) // 2
    return 0


def _plain(name: str) -> str:
    """Return an operator's name without the mark of those that write in place."""
    return name if name == "copy_" else name.removesuffix("_")
