"""Labelling: the channel labels of one run, and all that a rule may touch.

A rule is given the labelling and the call that ran. It reads the labels of what went in, records in `graph` what
stays or leaves together or can't leave at all, and sets the labels of what came out. Parameters carry no labels:
they are known with their views, and their dimensions are blocks of nodes of the graph.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from explorer.tracing.calls import Call
from explorer.tracing.graph import INPUT, NONE, OUTSIDE, Block, Graph, Length, Reduced, Use, varying
from explorer.tracing.parameters import Part, Parts, parts_of_views
from explorer.tracing.reductions import COUNTED_AS, RESTRICTED
from explorer.tracing.tape import tensors_in

__all__ = ["Labelling"]

_NO_HEADS = torch.empty(0, dtype=torch.int64)


class Labelling:
    """Labels of every live activation, and of parameters seen through transposes and added dimensions.

    Parameters
    ----------
    model
        The model that runs.
    """

    def __init__(self, model: nn.Module) -> None:
        self.graph = Graph()
        # whether multiply-adds are counted, and steps are those of the tape: not so in runs of further examples
        self.counts = True
        # the innermost module that is running
        self.module = ""
        # the nodes whose products the running operation makes, and whether a layer explains them
        self.heads, self.explained = _NO_HEADS, False
        # sums over channels: value (what was recorded of it, entries that were added)
        self.sums = WeakTensorKeyDictionary()
        # places of channels among others: value (their labels, why they cannot be pruned if this is used)
        self.places = WeakTensorKeyDictionary()
        # weights whose rows are vectors: view or what is computed of it (the weight in its own shape)
        self.flattened = WeakTensorKeyDictionary()
        self._constants = WeakTensorKeyDictionary()
        self._copies = WeakTensorKeyDictionary()
        self._reduced: Counter[tuple[str, str]] = Counter()
        self._labels = WeakTensorKeyDictionary()
        # value: (tensor name, for every dimension of this view what it is of the parameter)
        self._parameters = WeakTensorKeyDictionary()
        # of views from which dimensions were taken by one of their places: those places
        self._taken = WeakTensorKeyDictionary()
        self._buffers = {name for name, _ in model.named_buffers()}
        self._shapes: dict[str, torch.Size] = {}
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            self._shapes[name] = tensor.shape
            self._parameters[tensor] = (name, tuple(Part(dim, 0, n) for dim, n in enumerate(tensor.shape)))

    def begin(self, step: int) -> None:
        """Get ready for the operation of that number."""
        self.graph.step, self.explained, self.heads = step if self.counts else OUTSIDE, False, _NO_HEADS

    def counted(self, call: Call) -> None:
        """Note that an operation ran that can run over a part of the channels; they are told apart by number."""
        if call.name in RESTRICTED:
            self._reduced[self.module, COUNTED_AS.get(call.name, call.name)] += 1

    def touched(self, call: Call) -> bool:
        """Tell whether a parameter or a labelled activation goes into an operation."""
        if self.rows_of(call) is not None:
            return True
        return any(tensor in self._parameters or tensor in self._labels for tensor in call.tensors)

    def rows_of(self, call: Call) -> Tensor | None:
        """Return the weight's flattened rows that go into an operation, None where there are none."""
        if not self.flattened:
            return None
        return next((tensor for tensor in call.tensors if tensor in self.flattened), None)

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

    def constant_labels(self, tensor: Tensor, dim: int) -> Tensor:
        """Return labels of a constant along a dimension: nodes of its own, which tie whatever it is combined with.

        A bias of all zeros that several layers share has a width, although no parameter makes it. Views and copies of
        a constant have its nodes.
        """
        root = tensor
        while (origin := self._copies.get(root, root._base)) is not None:
            root = origin
        widths = self._constants.setdefault(root, {})
        width = tensor.size(dim), tensor.stride(dim)
        if width not in widths:
            widths[width] = self.graph.unwritten(tensor.size(dim))
        return widths[width].reshape([-1 if d == dim % tensor.dim() else 1 for d in range(tensor.dim())])

    def copied(self, call: Call) -> None:
        """Note that a constant was copied."""
        sources = call.tensors
        if len(sources) == 1 and isinstance(call.out, Tensor) and call.out._base is None:
            source, out = sources[0], call.out
            if source is not out and (source.shape, source.stride()) == (out.shape, out.stride()):
                self._copies[out] = source

    def whole_labels(self, tensor: Tensor, along: Iterable[int] = ()) -> Tensor:
        """Return labels of the tensor's full shape; those of a parameter are as `data_labels` gives them."""
        if self.is_parameter(tensor):
            return self.data_labels(tensor, along).expand(tensor.shape).contiguous()
        # contiguous, so that whatever view the tensor allows its labels allow
        # no rows at all, as for an expert that none was sent to, have labels as one row has
        return self.labels(tensor).expand([max(1, length) for length in tensor.shape]).contiguous()

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
        """Return labels along one dimension as a vector.

        What varies along other dimensions too, as pixels that a linear layer makes, leaves channel by channel; what
        varies along others only is fixed.
        """
        labels = self.labels(tensor)
        others = [d for d in varying(labels) if d != dim]
        if others and labels.size(dim) == 1:
            reason = f"channels lie along several dimensions{self.where()}"
            self.graph.fix(labels, reason)
            return torch.full((tensor.size(dim),), self.graph.node(reason))
        first = labels
        for other in others:
            first = first.narrow(other, 0, 1)
        if others:
            self.graph.tie(first, labels)
        return first.reshape(-1).expand(tensor.size(dim))

    def fix(self, tensor: Tensor, reason: str) -> None:
        """Fix all channels an activation or a parameter carries."""
        self.graph.fix(self.labels(tensor), reason)
        tensor = self.flattened.get(tensor, tensor)
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
        if not self.counts and any(
            (r.module, r.operator, r.number) == (self.module, name, number) for r in self.graph.reductions
        ):
            # known from the first example
            return
        self.graph.reductions.append(Reduced(self.module, name, number, axis, labels.numpy()))

    def sized(self, tensor: Tensor, dim: int, place: int = 0, pieces: int = 1) -> None:
        """Record that code gave a number for the length of a dimension with channels."""
        labels = self.labels(tensor)
        if labels.size(dim) > 1:
            for other in varying(labels):
                labels = labels if other == dim else labels.narrow(other, 0, 1)
            self.graph.lengths.append(Length(self.module, labels.reshape(-1).numpy(), place, pieces))

    def multiplied(self, weight: Tensor, kind: str, positions: int, groups: int = 1, matrix: int | None = None) -> None:
        """Record that a layer with this weight ran; that explains its multiply-adds.

        Of several matrices [matrices, rows, columns] it was the one of that number.
        """
        self.explained = True
        name, parts = self._parameters[weight]
        own = sorted([*parts, *self._taken.get(weight, ())])
        cut = tuple((start, length) for _, start, length in own)
        if matrix is not None:
            cut = ((cut[0][0] + matrix, 1), *cut[1:])
        whole = self.is_whole(weight) and matrix is None
        self.graph.ran(name, Use(kind, positions if self.counts else 0, groups, self.module, () if whole else cut))

    def is_parameter(self, tensor: Tensor) -> bool:
        return tensor in self._parameters and tensor not in self._labels

    def name_of(self, tensor: Tensor) -> str | None:
        """Return the name of a parameter or buffer, None for any other tensor."""
        return self.parameter_name(tensor) if self.is_parameter(tensor) else None

    def is_trained(self, tensor: Tensor) -> bool:
        """Tell whether a tensor is a parameter, or a view of one, and no buffer."""
        return self.is_parameter(tensor) and self.parameter_name(tensor) not in self._buffers

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
            taken = self._taken.get(tensor, ())
            if call.name == "select" and (part := parts[call["dim"]]) is not None:
                taken = (*taken, Part(part.dim, part.start + call["index"] % part.length, 1))
            if taken:
                self._taken[view] = taken
        return moved is not None

    def computed(self, out: Tensor, source: Tensor, parts: Parts | None = None) -> None:
        """Note that a tensor is computed from a parameter entry by entry, or row by row: it is sliced with it."""
        name, own = self._parameters[source]
        self._parameters[out] = (name, own if parts is None else parts)

    def parts(self, tensor: Tensor) -> Parts:
        """Return what every dimension of a view of a parameter is of the parameter's dimensions."""
        return self._parameters[tensor][1]

    def fix_places(self, used: Iterable[Tensor]) -> None:
        """Fix the channels of which it is asked at which place they are."""
        for tensor in used:
            for labels, reason in (self.places[tensor],) if tensor in self.places else ():
                self.graph.fix(labels, reason)

    def label_input(self, example: Any) -> None:
        """Get ready for a run, and give everything that comes from outside the one input label."""
        self._reduced.clear()
        for leaf in tree_leaves(example):
            if isinstance(leaf, Tensor):
                self.set(leaf, torch.full((1,) * leaf.dim(), INPUT))
        self.graph.fix(torch.tensor([INPUT]), "tied to the model's input")

    def fix_output(self, output: Any) -> None:
        """Fix every channel that the model returns."""
        self.fix_places(tensors_in(output))
        for leaf in tensors_in(output):
            self.fix(leaf, "tied to the model's output")
