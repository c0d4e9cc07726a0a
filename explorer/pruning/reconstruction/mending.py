"""Mending: one run of a sub-network on all calibration inputs, in which every layer is solved before it runs.

Where a layer's output only goes into an addition, the other operand may be computed after the layer was called. So
a layer does not run when it is called: memory for its output is handed on, and views, norms and scales of it are put
off too, until something needs the values. At that moment the layer is solved, and all that was put off is run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

from explorer.pruning.reconstruction.affine import Behind, Norm
from explorer.pruning.reconstruction.layers import Layer, Outcome
from explorer.pruning.reconstruction.paths import Layout, is_norm, is_view, scale_of, summand_of
from explorer.pruning.reconstruction.products import Product, product_of
from explorer.pruning.reconstruction.targets import Owners, Targets, Use, overlap

__all__ = ["Mending"]


@dataclass(eq=False)
class _Call:
    """An operation that was put off, and the memory handed on for its first result."""

    func: Any
    args: tuple[Any, ...]
    result: Tensor

    def run(self, *, in_place: bool) -> None:
        """Run it, and let what was handed on hold the result."""
        out = self.func(*self.args)
        out = out if isinstance(out, Tensor) else out[0]
        if in_place:
            self.result.copy_(out)
        else:
            self.result.set_(out)  # type: ignore[arg-type]


@dataclass(eq=False)
class _Pending:
    """A layer that was called and is not solved yet, and all that was put off with it."""

    number: int
    uses: tuple[Use, ...]
    columns: slice
    product: Product
    layout: Layout
    calls: list[_Call]
    norm: Norm | None = None
    scale: Tensor | None = None
    viewed: bool = False

    @property
    def next(self) -> str | None:
        """What comes next on the use's path."""
        stage = len(self.calls) - 1
        return self.uses[0].path[stage] if stage < len(self.uses[0].path) else None


class Mending(TorchDispatchMode):
    """Solves the layers of a sub-network while it runs; afterwards its weights and norms are the solution.

    Parameters
    ----------
    module
        The sub-network, in eval mode.
    targets
        What the dense network gave for the same inputs.
    kept
        Of a weight, by name, the kept entries of the dimension that is written and of the one that is read.
    keep
        Of a weight that has a pattern, by name, where it may differ from zero: bool of its shape and layout.
    ridge
        Weight of the distance to the inherited weights.
    """

    def __init__(
        self,
        module: nn.Module,
        targets: Targets,
        kept: Callable[[str], tuple[Tensor, Tensor]],
        keep: Mapping[str, Tensor],
        ridge: float,
    ) -> None:
        super().__init__()
        self._owners, self._targets = Owners(module), targets
        self._kept, self._keep, self._ridge = kept, keep, ridge
        self._on: Any = WeakTensorKeyDictionary()
        self._open: list[_Pending] = []
        self._ran: dict[str, list[slice]] = defaultdict(list)
        self._count = 0
        self.solved: set[str] = set()
        self.unchanged: set[str] = set()
        self.underdetermined: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        product = None if kwargs else product_of(func, args)
        if product is not None and self._owners.name(product.weight) is not None:
            for leaf in args:
                self._settle(leaf)
            pending = self._pending(func, args, product)
            if pending is not None:
                return pending.calls[0].result
        else:
            put_off = self._put_off(func, args, kwargs)
            if put_off is not None:
                return put_off
            if self.solved and is_norm(func, args) and self._alone(args[1:5]):
                _norm_of(args).follow(args[0])
        return func(*args, **kwargs)

    def finish(self) -> None:
        """Solve what nothing asked for the values of."""
        while self._open:
            self._resolve(self._open[0])

    def _settle(self, value: Any) -> None:
        if isinstance(value, Tensor) and (pending := self._on.get(value)) in self._open:
            self._resolve(pending)

    def _pending(self, func: Any, args: tuple[Any, ...], product: Product) -> _Pending | None:
        """Return a layer's call put off, None where it has to run as it is."""
        name, columns = self._owners.name(product.weight), self._owners.columns(product)
        if name is None or columns is None or name not in self._targets.uses:
            return None
        before = sum(overlap(columns, other) for other in self._ran[name])
        self._ran[name].append(columns)
        entries = self._kept(name)[0][columns]
        uses = [
            use
            for use in self._targets.uses[name]
            if len(entries) and use.columns.start <= entries[0] and entries[-1] < use.columns.stop
        ]
        if before or not uses or len(entries) != columns.stop - columns.start:
            return None
        result = self._memory(product)
        layout = Layout(result)
        if layout.places != uses[0].layout.places or not product.source.is_floating_point():
            return None
        call = _Call(func, args, result)
        pending = _Pending(self._count, tuple(uses), columns, product, layout, [call])
        self._count += 1
        self._open.append(pending)
        self._on[result] = pending
        return pending

    def _memory(self, product: Product) -> Tensor:
        """Return memory laid out as the product's output is going to be."""
        source, weight = product.source, product.weight
        if product.geometry is None:
            return source.new_empty(source.size(0), weight.size(1))
        channels = weight.size(1) * product.groups if product.kind == "conv_transposed" else weight.size(0)
        last = any(
            tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()
            for tensor in (source, weight)
        )
        return torch.empty(
            (source.size(0), channels, *product.geometry.outputs),
            dtype=source.dtype,
            device=source.device,
            memory_format=torch.channels_last if last else torch.contiguous_format,
        )

    def _put_off(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what a view, norm or scale of a pending output hands on; None once an operation can run."""
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        touched = sorted(
            {pending for leaf in leaves if (pending := self._on.get(leaf)) in self._open}, key=lambda one: one.number
        )
        if not touched:
            return None
        if is_view(func):
            out = func(*args, **kwargs)
            for leaf in tree_leaves(out):
                if isinstance(leaf, Tensor):
                    self._on[leaf] = touched[0]
            touched[0].viewed = True
            return out
        if len(touched) == 1 and not kwargs and touched[0].next in ("norm", "scale"):
            handed = self._further(touched[0], func, args)
            if handed is not None:
                return handed
        last = touched.pop()
        for pending in touched:
            self._resolve(pending)
        self._resolve(last, self._summand(last, func, args, kwargs))
        return None

    def _further(self, pending: _Pending, func: Any, args: tuple[Any, ...]) -> Any:
        value = next((arg for arg in args if isinstance(arg, Tensor) and arg in self._on), None)
        if value is None:
            return None
        if pending.next == "norm" and is_norm(func, args) and value is args[0]:
            pending.norm = _norm_of(args)
            result = torch.empty_like(value)
        elif pending.next == "scale" and (scale := scale_of(func, args, value, pending.layout)) is not None:
            flat = scale.reshape(-1)
            pending.scale = flat if pending.scale is None else pending.scale * flat
            result = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
        else:
            return None
        pending.calls.append(_Call(func, args, result))
        self._on[result] = pending
        returns = len(func._schema.returns)
        return result if returns == 1 else (result, *(result.new_empty(0) for _ in range(returns - 1)))

    def _summand(self, pending: _Pending, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """Return what is added to a pending output, in the shape of the layer's; None where that is no target."""
        if pending.next != "sum":
            return None
        value = next((arg for arg in args if isinstance(arg, Tensor) and self._on.get(arg) is pending), None)
        other = None if value is None else summand_of(func, args, kwargs, value)
        return None if other is None or value is None else pending.layout.of(other, value)

    def _resolve(self, pending: _Pending, summand: Tensor | None = None) -> None:
        """Solve a pending layer, and run what was put off."""
        self._open.remove(pending)
        self._solve(pending, summand)
        for call in pending.calls:
            call.run(in_place=pending.viewed)
        # what is known of views would hold all activations until the end
        del pending.product
        pending.calls.clear()

    def _alone(self, tensors: Iterable[Any]) -> bool:
        """Tell whether no other operation used these tensors."""
        return all(tensor is None or self._owners.name(tensor) in self._targets.alone for tensor in tensors)

    def _solve(self, pending: _Pending, summand: Tensor | None) -> None:
        product, name = pending.product, pending.uses[0].weight
        written, read = self._kept(name)
        free = self._owners.name(product.bias) in self._targets.alone
        behind = Behind(product.bias, free, pending.norm, pending.scale)
        # clipped is what comes out of the whole path
        whole = pending.next is None or (pending.next == "sum" and summand is not None)
        bounds = pending.uses[0].bounds if whole else None
        places, entries = self._targets.places, written[pending.columns]
        layer = Layer(product, behind, places, pending.uses, entries, read, summand, bounds)
        keep = self._keep.get(name)
        if keep is not None:
            weight = product.weight
            keep = keep.as_strided(weight.shape, weight.stride(), weight.storage_offset())
        outcome = layer.solve(self._ridge, keep)
        (self.solved if outcome is Outcome.SOLVED else self.unchanged).add(name)
        if outcome is Outcome.SOLVED and layer.underdetermined:
            self.underdetermined.add(name)


def _norm_of(args: tuple[Any, ...]) -> Norm:
    weight, bias, mean, variance = args[1:5]
    return Norm(weight, bias, mean, variance, args[7] if len(args) > 7 else args[6])
