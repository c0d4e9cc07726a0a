"""How operations that run over channels as a whole are made to run over the kept ones only.

The masked network has all channels, and runs these operations under a dispatch mode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from explorer.tracing.reductions import ALONG, COUNTED_AS, LAYER_NORMS, PRODUCTS, REDUCING, RESTRICTED

__all__ = ["KeptOnly", "Part"]


# what these give has none of the entries any more
_SUMMED = REDUCING | PRODUCTS


@dataclass(frozen=True)
class Part:
    """The kept entries of a reduction: its input's dimension, their indices, the length with all; see `Reduction`."""

    axis: int
    index: Tensor
    length: int
    divisor: int | None = None


class KeptOnly(TorchDispatchMode):
    """Runs the reductions of one model over the kept entries only; what is not kept comes out as zero.

    Parameters
    ----------
    parts
        What is kept, by the module that runs the reduction, its operator and how often that ran there before.
    """

    def __init__(self, parts: Mapping[tuple[str, str, int], Part]) -> None:
        super().__init__()
        self.parts = dict(parts)
        self._stack: list[str] = []
        self._ran: Counter[tuple[str, str]] = Counter()

    def watch(self, model: nn.Module) -> None:
        """Hook a model so that its runs, and those of its deep copies, are under this mode."""
        for name, module in model.named_modules():
            place = _Place(self, name)
            module.register_forward_pre_hook(place.enter, prepend=True)
            module.register_forward_hook(place.leave, always_call=True)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            # there composite operators arrive whole
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        name, part = func.overloadpacket.__name__, None
        if name in RESTRICTED:
            place = (self._stack[-1] if self._stack else "", COUNTED_AS.get(name, name))
            part = self.parts.get((*place, self._ran[place]))
            self._ran[place] += 1
        out = func(*args, **kwargs)
        return out if part is None else _on_kept(func, name, args, kwargs, out, part)

    def enter(self, module: str) -> None:
        """Note that a module begins to run; the model itself begins a run."""
        # a model may call itself
        if not module and not self._stack:
            self._ran.clear()
            self.__enter__()
        self._stack.append(module)

    def leave(self, module: str) -> None:
        """Note that a module has run."""
        self._stack.pop()
        if not module and not self._stack:
            self.__exit__(None, None, None)


class _Place:
    """The hooks of one module."""

    def __init__(self, mode: KeptOnly, name: str) -> None:
        self._mode, self._name = mode, name

    def enter(self, module: nn.Module, args: Any) -> None:
        self._mode.enter(self._name)

    def leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self._mode.leave(self._name)


def _on_kept(func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], dense: Any, part: Part) -> Any:
    """Return what an operation makes of the kept entries, in the shape and layout of what it made of all."""
    source = args[0]
    if source.size(part.axis) != part.length:
        raise ValueError(f"{name} runs over {source.size(part.axis)} entries, {part.length} when the model was traced")
    index = part.index.to(source.device)
    out = func(*_ARGUMENTS[name](args, part.axis, index), **kwargs)
    if name not in _SUMMED:
        first, small = (dense, out) if isinstance(out, Tensor) else (dense[0], out[0])
        first.zero_().index_copy_(part.axis, index, small)
        return dense if isinstance(out, Tensor) else (first, *out[1:])
    if part.divisor is not None:
        entries, kept = source.numel() // out.numel(), source.numel() // out.numel() * len(index) // part.length
        # as a tensor, since one entry has no variance: not a number
        out = out * (entries - part.divisor) / (kept - part.divisor)
    return out


def _first(args: tuple[Any, ...], axis: int, index: Tensor) -> tuple[Any, ...]:
    return args[0].index_select(axis, index), *args[1:]


def _layer_norm(args: tuple[Any, ...], axis: int, index: Tensor) -> tuple[Any, ...]:
    source, shape, *rest = args
    own = axis - (source.dim() - len(shape))
    small = source.index_select(axis, index)
    return small, small.shape[source.dim() - len(shape) :], *_selected(rest, own, index)


def _group_norm(args: tuple[Any, ...], axis: int, index: Tensor) -> tuple[Any, ...]:
    source, weight, bias, batch, _, *rest = args
    small = source.index_select(axis, index)
    return small, *_selected([weight, bias], 0, index), batch, len(index), *rest


def _factors(args: tuple[Any, ...], axis: int, index: Tensor) -> tuple[Any, ...]:
    return args[0].index_select(axis, index), args[1].index_select(1, index)


def _selected(parts: list[Any], axis: int, index: Tensor) -> list[Any]:
    return [part.index_select(axis, index) if isinstance(part, Tensor) else part for part in parts]


_ARGUMENTS: dict[str, Callable[[tuple[Any, ...], int, Tensor], tuple[Any, ...]]] = {
    **dict.fromkeys(sorted(ALONG | REDUCING | {"native_batch_norm"}), _first),
    **dict.fromkeys(LAYER_NORMS, _layer_norm),
    **dict.fromkeys(PRODUCTS, _factors),
    "native_group_norm": _group_norm,
}
"""Of every operator that can run over kept entries only: its arguments for them."""
