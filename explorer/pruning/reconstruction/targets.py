"""Targets: what the dense network's layers give at the drawn places of the calibration inputs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from explorer.pruning.reconstruction.paths import Layout, bounds_of, is_norm, is_view, scale_of, summand_of
from explorer.pruning.reconstruction.places import Places
from explorer.pruning.reconstruction.products import Product, Taps, places_of, product_of

__all__ = ["Owners", "Targets", "Use", "Watch", "overlap", "rows_of"]


class Owners:
    """The parameters and buffers of a module, told by their memory whatever view of one is asked for."""

    def __init__(self, module: nn.Module) -> None:
        self._names: dict[int, str] = {}
        self._tensors: dict[str, Tensor] = {}
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            # of tied tensors the first name stands for all
            if tensor.numel() and self._names.setdefault(tensor.untyped_storage().data_ptr(), name) == name:
                self._tensors[name] = tensor

    def name(self, value: Any) -> str | None:
        """Return the name of the tensor whose memory a value has."""
        return self._names.get(value.untyped_storage().data_ptr()) if isinstance(value, Tensor) else None

    def columns(self, product: Product) -> slice | None:
        """Return the entries of a weight's writing dimension that a product has; None where that is no slice."""
        tensor = self._tensors[self._names[product.weight.untyped_storage().data_ptr()]]
        if product.geometry is not None:
            return slice(0, product.weight.size(1 if product.kind == "conv_transposed" and product.groups == 1 else 0))
        if tensor.dim() != 2:
            return None
        step = product.weight.stride(1)
        dim = 0 if step == tensor.stride(0) and product.weight.stride(0) == tensor.stride(1) else 1
        if step != tensor.stride(dim):
            return None
        offset = product.weight.storage_offset() - tensor.storage_offset()
        start = offset // step if step > tensor.stride(1 - dim) else offset % tensor.stride(1 - dim) // step
        return slice(start, start + product.weight.size(1))


@dataclass(eq=False)
class Use:
    """One run of a layer in the dense network.

    Parameters
    ----------
    weight
        The name of its weight.
    columns
        The entries of the weight's writing dimension that took part.
    layout
        How its output lies in memory.
    output
        Its output at the drawn places: float ``[R, N]``.
    path
        What becomes of the output and of nothing else: ``norm`` and ``scale``s, then perhaps ``sum``.
    total
        What the addition at the end of the path gave there.
    inputs
        The rows of `X`, where the layer has run before: float ``[R, kernel, channels]``.
    bounds
        Below and above which what comes out of the path is clipped before anything else reads it.
    """

    weight: str
    columns: slice
    layout: Layout
    output: Tensor
    path: tuple[str, ...] = ()
    total: Tensor | None = None
    inputs: Tensor | None = None
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Targets:
    """All uses of layers by their weight's name, in order; and the tensors that one operation alone used."""

    uses: Mapping[str, Sequence[Use]]
    alone: frozenset[str]
    places: Places

    @property
    def bytes(self) -> int:
        """How much memory they take."""
        uses = [use for each in self.uses.values() for use in each]
        kept = [tensor for use in uses for tensor in (use.output, use.total, use.inputs)]
        return sum(tensor.nbytes for tensor in kept if tensor is not None)


@dataclass(eq=False)
class _Value:
    """A value on the path of a use, how many operations read it, and the tensors of the norms before it.

    If it is added to something, `total` is their sum at the drawn places and `after` the sum itself.
    """

    use: Use
    kinds: tuple[str, ...]
    before: _Value | None
    names: frozenset[str] = frozenset()
    readers: int = 0
    total: Tensor | None = None
    after: _Value | None = None
    clipped: tuple[float, float] | None = None
    sum: bool = False

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Where it is clipped, if nothing else reads it."""
        return self.clipped if self.readers == 1 else None

    def sole(self) -> bool:
        """Tell whether nothing but the path reads the values before this one."""
        return self.before is None or (self.before.readers == 1 and self.before.sole())


class Watch(TorchDispatchMode):
    """Gathers targets while the dense network runs on all calibration inputs at once."""

    def __init__(self, module: nn.Module, weights: Iterable[str], places: Places) -> None:
        super().__init__()
        self._owners = Owners(module)
        self._weights = frozenset(weights)
        self._places = places
        self._uses: dict[str, list[Use]] = defaultdict(list)
        self._values: list[_Value] = []
        self._on = WeakTensorKeyDictionary()
        self._readers: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not is_view(func):
            self._readers.update({name for tensor in tensors if (name := self._owners.name(tensor)) is not None})
        on = [(tensor, self._on[tensor]) for tensor in tensors if tensor in self._on]
        if func._schema.is_mutable:
            # what is written to is another value
            for tensor, _ in on:
                self._on.pop(tensor, None)
        for tensor, value in on:
            self._follow(func, args, kwargs, tensor, value, out)
        product = None if kwargs else product_of(func, args)
        if product is not None and self._owners.name(product.weight) in self._weights:
            self._multiplied(product, out)
        return out

    def targets(self, output: Any) -> Targets:
        """Return what was gathered, once the network gave its output."""
        for leaf in _tensors_in(output):
            if leaf in self._on:
                self._on[leaf].readers += 1
        alone = {name for name, readers in self._readers.items() if readers == 1}
        for value in self._values:
            # a norm may be written to if nothing else has it; the longest of a use's paths comes last
            if value.sole() and value.names <= alone:
                value.use.path, value.use.bounds = value.kinds, value.bounds
                if value.after is not None and value.readers == 1:
                    value.use.path, value.use.total = (*value.kinds, "sum"), value.total
                    value.use.bounds = value.after.bounds
        layers = {name for name, uses in self._uses.items() if self._readers[name] == len(uses)}
        return Targets({name: tuple(self._uses[name]) for name in layers}, frozenset(alone), self._places)

    def _multiplied(self, product: Product, out: Tensor) -> None:
        name, columns = self._owners.name(product.weight), self._owners.columns(product)
        # what something else reads too, as an embedding does, is left as it is
        if columns is None or name is None or self._readers[name] > len(self._uses[name]) + 1:
            return
        layout = Layout(out)
        rows = self._places.rows(layout.places, out.device)
        use = Use(name, columns, layout, rows_of(out, rows))
        if any(overlap(columns, other.columns) for other in self._uses[name]):
            taps = self._places.taps(product.geometry, layout.places, out.device)
            use.inputs = _inputs(product, taps, len(rows))
        self._uses[name].append(use)
        value = _Value(use, (), None)
        self._values.append(value)
        self._on[out] = value

    def _follow(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], tensor: Tensor, value: _Value, out: Any
    ) -> None:
        """Note what an operation does with a tensor that has a followed value."""
        layout = value.use.layout
        if is_view(func):
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor) and layout.holds(leaf):
                    self._on[leaf] = value
                else:
                    # a part of it may be read in any way
                    value.readers += 1
            return
        value.readers += 1
        value.clipped = bounds_of(func, args)
        if value.sum:
            return
        other = summand_of(func, args, kwargs, tensor)
        if other is not None:
            rows = self._places.rows(layout.places, out.device)
            # written in place the tensor itself is the sum
            value.total = rows_of(layout.of(out, tensor), rows)
            # both operands may be followed
            value.after = self._on.setdefault(out, _Value(value.use, (), None, sum=True))
        elif is_norm(func, args) and args[0] is tensor and not value.kinds and tensor.shape == layout.shape:
            self._onto(value, "norm", out[0], args[1:5])
        elif (scale := scale_of(func, args, tensor, layout)) is not None:
            self._onto(value, "scale", out, (scale,))

    def _onto(self, value: _Value, kind: str, out: Tensor, tensors: Sequence[Tensor | None]) -> None:
        names = [self._owners.name(tensor) for tensor in tensors if tensor is not None]
        if value.use.layout.holds(out) and all(names):
            known = value.names.union(name for name in names if name and kind == "norm")
            further = _Value(value.use, (*value.kinds, kind), value, known)
            self._values.append(further)
            self._on[out] = further


def rows_of(value: Tensor, rows: Tensor) -> Tensor:
    """Return a layer's output, or what has its shape, at some places: float ``[R, N]``."""
    found = value.index_select(0, rows) if value.dim() == 2 else places_of(value, rows)
    return found if found.dtype == torch.float64 else found.float()


def _inputs(product: Product, taps: Taps, rows: int) -> Tensor:
    whole = Product(product.source, product.weight, None, product.kind, 1, product.geometry)
    found = whole.rows(taps, slice(0, rows))[0]
    return found.view(rows, -1, product.source.size(1))


def overlap(one: slice, other: slice) -> bool:
    return one.start < other.stop and other.start < one.stop


def _tensors_in(output: Any) -> list[Tensor]:
    """Return the tensors of a model's output, of one that is an object those among its attributes."""
    parts = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    parts += [inner for part in parts for inner in tree_leaves(getattr(part, "__dict__", None))]
    return [part for part in parts if isinstance(part, Tensor)]
