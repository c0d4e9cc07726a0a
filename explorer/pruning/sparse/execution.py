"""A masked module as it runs fastest on this machine: every masked layer in the fastest of its forms."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.pruning.patterns import Mask
from explorer.pruning.sparse.forms import forms, unfit
from explorer.pruning.sparse.matrix import Form, Layer, Matrix
from explorer.utils.modules import run
from explorer.utils.timing import interleaved
from spaces import Pattern, PruningError, first_line, unknown

__all__ = ["Executed", "Note", "execute"]

_DENSE = "dense"
# turns and seconds a form is timed for
_RUNS, _SECONDS = 15, 0.05
# of the greatest output: what sums in another order differ by
_ROUNDING = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Note:
    """Why a layer with a mask runs as a dense one."""

    layer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.layer}: {self.reason}"


_Found = tuple[str, Form] | Note
_Known = MutableMapping[Any, tuple[str, str]]
_Choices = Mapping[str, Callable[[], Form]]


@dataclass(frozen=True, eq=False)
class Executed:
    """A module some of whose layers compute with their patterns, for inference only.

    Attributes
    ----------
    module
        A copy that shares all tensors with the masked module.
    layers
        The form that every executed layer has, by layer.
    notes
        Why the others with a mask stayed dense.
    """

    module: nn.Module
    layers: Mapping[str, str]
    notes: tuple[Note, ...]


def execute(
    module: nn.Module,
    masks: Mapping[str, tuple[Pattern, Mask]],
    example: Any = None,
    *,
    known: _Known | None = None,
) -> Executed:
    """Return a masked module as it runs fastest on inputs like `example`, each layer in the fastest of its forms.

    Every form, and the dense layer, is timed in turns on what the layer reads in a forward pass of `example`; a form
    whose outputs are not those of the masked dense layer to rounding is not used.

    Parameters
    ----------
    module
        In eval mode; its weights are zero where the masks remove them.
    masks
        The pattern and the mask of layers, by name. Another mask than the one the weights have gives other outputs.
    example
        A batch of inputs (a tensor, a tuple or a mapping), in the memory layout of later ones. Without it nothing is
        timed, and every layer takes its first form.
    known
        What was found before, by pattern, layer, shapes and device: given again it saves the timing, at the price that
        two masks of one pattern count as equally fast. It is added to.

    Raises
    ------
    PruningError
        If a name is no layer's, or a mask is not of its layer's shape.

    Examples
    --------
    >>> layer = nn.Linear(4, 2)
    >>> pattern = Pattern.of({"granularity": "tile", "width": 1, "ratio": 0.5})
    >>> keep = torch.tensor([[[True, False]] * 2 + [[False, True]] * 2])
    >>> with torch.no_grad():
    ...     _ = layer.weight.mul_(keep[0].T)
    >>> execute(nn.Sequential(layer), {"0": (pattern, Mask(keep))}).layers
    {'0': 'tiles'}
    """
    # the copy is one of structure: tensors stay the same
    tensors: dict[int, Any] = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
    twin = copy.deepcopy(module, tensors).eval()
    found: dict[str, _Found] = {}
    handles = []
    for name, (pattern, mask) in masks.items():
        layer = _named(twin, name)
        reason = unfit(layer) if isinstance(layer, nn.Module) else "its weight is no layer's"
        if reason is not None:
            found[name] = Note(name, reason)
            continue
        _check(name, layer, mask)
        choices = forms(layer, pattern, mask)
        if example is None:
            found[name] = _first(name, choices)
        else:
            hook = partial(_on_input, found, {} if known is None else known, name, choices, str(pattern))
            handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
    if example is not None:
        with torch.no_grad():
            run(twin, example)
    for handle in handles:
        handle.remove()
    layers = {}
    for name in masks:
        result = found.setdefault(name, Note(name, "a forward pass of the example does not run it"))
        if not isinstance(result, Note):
            layers[name] = result[0]
            parent, _, child = name.rpartition(".")
            setattr(twin.get_submodule(parent), child, result[1])
    return Executed(twin, layers, tuple(note for note in found.values() if isinstance(note, Note)))


def _named(module: nn.Module, name: str) -> Any:
    """Return the layer of a name, or the parameter of no layer that has it."""
    try:
        return module.get_submodule(name)
    except AttributeError:
        tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if name not in tensors:
        raise unknown("masks", name, [own for own, layer in module.named_modules() if unfit(layer) is None])
    return tensors[name]


def _check(name: str, layer: Layer, mask: Mask) -> None:
    shape, given = list(Matrix.of(layer).entries.shape), list(mask.keep.shape)
    if shape != given:
        raise PruningError(f"masks.{name}: a mask of shape {given}, the layer's matrices are {shape}")


def _on_input(
    found: dict[str, _Found],
    known: _Known,
    name: str,
    choices: _Choices,
    pattern: str,
    layer: Layer,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Choose a layer's form when it is run for the first time."""
    if name in found:
        return
    x: Tensor = args[0] if args else kwargs["input"]
    key = (pattern, repr(layer), x.shape, x.stride(), x.dtype, str(x.device), torch.get_num_threads())
    form, reason = known.get(key, ("", ""))
    if form == _DENSE:
        found[name] = Note(name, reason)
    elif form in choices:
        found[name] = form, choices[form]()
    else:
        # not seen before, or in a form that this mask does not have
        found[name] = result = _fastest(name, layer, choices, x)
        known[key] = (_DENSE, result.reason) if isinstance(result, Note) else (result[0], "")


def _first(name: str, choices: _Choices) -> _Found:
    """Return the first form that can be built: for sizes, types and devices without a kernel torch raises."""
    reasons = []
    for form, build in choices.items():
        try:
            return form, build()
        except Exception as error:
            reasons.append(_line(form, error))
    return Note(name, "; ".join(reasons))


def _fastest(name: str, layer: Layer, choices: _Choices, x: Tensor) -> _Found:
    """Return the fastest form on an input, or why it is the dense layer."""
    reference = layer.forward(x)
    allowed = _ROUNDING.get(x.dtype, 0.0) * float(reference.abs().max()) if reference.numel() else 0.0
    built, reasons = {}, []
    for form, build in choices.items():
        try:
            module = build()
            same = torch.allclose(module(x), reference, rtol=0, atol=allowed, equal_nan=True)
        except Exception as error:
            reasons.append(_line(form, error))
            continue
        if same:
            built[form] = module
        else:
            reasons.append(f"{form}: its outputs are not those of the dense layer")
    if not built:
        return Note(name, "; ".join(reasons))

    def timed(module: nn.Module) -> Callable[[], object]:
        def once() -> None:
            module.forward(x)
            if x.is_cuda:
                torch.cuda.synchronize(x.device)

        return once

    dense, *timings = interleaved([timed(m) for m in (layer, *built.values())], runs=_RUNS, seconds=_SECONDS)
    time, form = min(zip((timing.median for timing in timings), built, strict=True))
    if time < dense.median:
        return form, built[form]
    return Note(name, f"the dense kernel is faster: {dense.median:.3g} ms, {form} {time:.3g} ms")


def _line(form: str, error: Exception) -> str:
    return f"{form}: {first_line(error) or type(error).__name__}"
