"""Layers: the tensors and operations of a network, with the unit that every entry of a dimension belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

__all__ = ["Dim", "Layer", "Leaf", "Product", "Reduction", "Size", "Span", "Tensor"]


@dataclass(frozen=True)
class Span:
    """`count` consecutive atoms of a unit from `start` on, each taking `each` entries; unit None: fixed entries."""

    unit: str | None
    start: int
    count: int
    each: int = 1

    @property
    def entries(self) -> int:
        return self.count * self.each


@dataclass(frozen=True)
class Dim:
    """Which unit every entry of one tensor dimension belongs to.

    Parameters
    ----------
    spans
        The entries in order.
    groups
        Above 1 for the input dimension of a grouped convolution: `spans` then covers all input channels, of
        which the tensor stores ``1 / groups`` for each output row.
    reads
        Whether the dimension consumes the channels (a layer's input). Masking a channel zeroes its readers.
    """

    spans: tuple[Span, ...]
    groups: int = 1
    reads: bool = False

    @cached_property
    def length(self) -> int:
        """Entries of the tensor along the dimension, dense."""
        return sum(span.entries for span in self.spans) // self.groups

    @cached_property
    def units(self) -> frozenset[str]:
        return frozenset(span.unit for span in self.spans if span.unit is not None)


@dataclass(frozen=True)
class Tensor:
    """A parameter or buffer: its dimensions, bytes an entry and whether it counts as a parameter."""

    name: str
    dims: tuple[Dim, ...]
    itemsize: int = 4
    parameter: bool = True

    @property
    def units(self) -> frozenset[str]:
        return frozenset().union(*(dim.units for dim in self.dims))


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer: each entry of `weight` is multiplied `positions` times for the network's `inputs`.

    Its weight is a *weight unit*: a GEMM matrix for each of the convolution's `groups`, on which a pattern can be
    put. `kind` is ``linear``, ``conv`` or ``conv_transposed``.
    """

    name: str
    kind: str
    weight: str
    positions: int
    groups: int = 1


@dataclass(frozen=True)
class Product:
    """Multiply-adds that no weight explains: attention products, convolutions with computed weights.

    For the network's `inputs` there are `flops` times the product of the dimensions' kept lengths. `name` is the module
    in which they are made.
    """

    name: str
    flops: int
    dims: tuple[Dim, ...] = ()


@dataclass(frozen=True)
class Leaf:
    """A module without parameters that moves channels (an option-A shortcut); surgery slices its index map."""

    name: str
    reads: Dim
    writes: Dim


@dataclass(frozen=True)
class Reduction:
    """An operation that runs over channels as a whole: a norm, a softmax, a mean. Masked, it runs over the kept ones.

    Parameters
    ----------
    module
        The innermost module that runs it.
    operator
        Its ATen name, without overload.
    number
        How often that operator ran in that module before, in one run of the model.
    axis
        The dimension of its input along which the channels lie.
    dim
        What these channels are.
    divisor
        For a sum of n entries that is then divided by ``n - divisor``, which makes it a mean or a variance;
        None for anything else.
    """

    module: str
    operator: str
    number: int
    axis: int
    dim: Dim
    divisor: int | None = None


@dataclass(frozen=True)
class Size:
    """A number that a module's code takes for the length of `dim`: an attribute, or one place in a tuple or list."""

    module: str
    attribute: str
    place: int | None
    dim: Dim
