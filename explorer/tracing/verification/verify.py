"""Every unit is checked when a model is traced: masked must equal sliced, or the unit is fixed."""

from __future__ import annotations

import copy
import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from explorer.pruning.surgery import Surgeon
from explorer.pruning.surgery.skeleton import copied
from explorer.pruning.surgery.stand_ins import returned
from explorer.tracing.recorder import tensors_in
from explorer.tracing.verification.masking import masked
from explorer.tracing.verification.sifting import Item, sifted
from explorer.utils.modules import run, without_fused_layers
from spaces import BlockUnit, ChannelUnit, Dim, FixedBlock, FixedChannels, Network, PruningError, Span, first_line

__all__ = ["verified"]

_LARGE = 200_000_000
# rounds of subsets; a wrong unit of few channels or heads passes one by luck, so that more are made
_ROUNDS, _ROUNDS_OF_SMALL, _SMALL, _FEW = 4, 10, 12, 4
# the first round of joint recipes, in which this share of the blocks is dropped
_JOINT, _DROPPED = 3, 0.5
# random weights are made smaller by these where rounding errors do not stay this far below the tolerance: a deep
# network with gates multiplies them by up to a billion
_GAINS, _CALM = (0.7, 0.5, 0.35), 0.1
# the least correlation of a block's argument and output: 0.86 after a ReLU, about 0 of what has nothing in common
_FOLLOWS = 0.3


def verified(model: nn.Module, network: Network, example: Any, *, training: bool = False) -> Network:
    """Return `network` with every unit fixed whose sliced model crashes or differs from the masked one.

    A temporary copy with random parameters and statistics is used, in eval mode and float64 to a relative
    1e-9; above 200 M parameters, and where the model insists on it, in float32 to 1e-3. All units are checked
    at once and bisected on a mismatch, in rounds with other subsets. Blocks are dropped beside them: first all that
    do not lie in each other at once, then some of all in the last rounds. Before that the output of each must follow
    its argument while the layers of all are silent.

    With `training` the sliced model must also run in training mode, where auxiliary heads read channels.

    Raises
    ------
    PruningError
        If the model cannot be copied.
    """
    if not network.units and not network.blocks:
        return network
    try:
        check = _Check(model, network, example)
    except _UncheckableError as error:
        return _with_fixed(network, dict.fromkeys((*network.units, *network.blocks), str(error)))
    good: list[Item] = list(network.units)
    bad: dict[Item, str] = {}
    small = any(unit.channels <= _SMALL * unit.groups or unit.atoms <= _FEW * unit.groups for unit in network.units)
    for number in range(_ROUNDS_OF_SMALL if small else _ROUNDS):
        if number == _JOINT:
            blocks, worse = _good_blocks(check, good, network.blocks)
            good += blocks
            bad |= worse
        good, worse = sifted(partial(check, number=number), good)
        bad |= worse
    if training and check.runs_in_training():
        good, worse = sifted(check.training, good)
        bad |= worse
    return _with_fixed(network, bad)


def _good_blocks(check: _Check, units: list[Item], blocks: Sequence[BlockUnit]) -> tuple[list[Item], dict[Item, str]]:
    """Return the blocks that can be dropped beside `units`, and the reason for each other one."""
    bad: dict[Item, str] = dict(check.following(blocks).items())
    good: list[Item] = []
    depth = {block: sum(other.holds(block.name) for other in blocks) for block in blocks if block not in bad}
    for level in sorted(set(depth.values())):
        alike: list[Item] = [block for block in depth if depth[block] == level]
        passed, worse = sifted(lambda some: check([*units, *some], number=0), alike)
        good += passed
        bad |= worse
    return good, bad


class _UncheckableError(Exception):
    """The dense model does not run with random parameters."""


class _Check:
    """Compares the masked with the sliced network on proper subsets of some units, without some blocks."""

    def __init__(self, model: nn.Module, network: Network, example: Any) -> None:
        self.network = network
        self.gains = list(_GAINS)
        self.place = {unit.name: place for place, unit in enumerate(network.units)}
        small = sum(p.numel() for p in model.parameters()) <= _LARGE
        precisions = [(torch.float64, 1e-9)] * small + [(torch.float32, 1e-3)]
        problem = ""
        # an input may have to be what it is (a mask, an image of positive values), a model may insist on float32
        for (self.dtype, self.tolerance), fresh in itertools.product(precisions, (True, False)):
            generator = torch.Generator().manual_seed(0)
            try:
                self.model = _randomised(copied(model).cpu().eval().to(self.dtype), generator)
            except Exception as error:
                raise PruningError(f"model: it cannot be copied, {_described(error)}") from error
            self.example = tree_map(lambda leaf, fresh=fresh, g=generator: self._input(leaf, fresh, g), example)
            outputs, uses = [], _Uses(model)
            try:
                with uses:
                    outputs = self._run(self.model)
            except Exception as error:
                problem = problem or _described(error)
            if uses.found is not None:
                raise _UncheckableError(f"a copy of the model still runs {uses.found} of the dense one")
            if not outputs:
                continue
            # a model may mask out with minus infinity
            if all(bool((out < math.inf).all()) and bool(out.isfinite().any()) for out in outputs if out.numel()):
                self.surgeon = Surgeon(self.model, network)
                return
            problem = problem or "its outputs are not finite"
        raise _UncheckableError(f"cannot be verified, the model fails with random parameters ({problem})")

    def __call__(self, items: Sequence[Item], number: int) -> str | None:
        """Return why slicing these units in round `number` and dropping these blocks is wrong, or None."""
        kept, dropped = self._chosen(items, number)
        try:
            got = self._run(self.surgeon.build(kept, dropped))
        except Exception as error:
            return f"the sliced model raises {_described(error)}"
        dense = masked(self.model, self.network, kept, dropped)
        expected = self._run(dense)
        if len(expected) != len(got):
            return f"the sliced model returns {len(got)} tensors instead of {len(expected)}"
        for a, b in zip(expected, got, strict=True):
            if a.shape != b.shape:
                return f"the sliced model returns {list(b.shape)} instead of {list(a.shape)}"
            if not (difference := _difference(a, b)) <= self.tolerance:
                if self._calmed(expected, dense):
                    return self(items, number)
                return f"the sliced model differs from the masked one by {difference:.1e}"
        return None

    def _calmed(self, expected: Sequence[torch.Tensor], network: nn.Module) -> bool:
        """Tell whether rounding errors could pass for mistakes in a masked network; then weights are made smaller."""
        if not self.gains:
            return False
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in network.parameters():
                noise = torch.randn(parameter.shape, generator=generator).to(self.dtype)
                parameter.mul_(1 + torch.finfo(self.dtype).eps * noise)
        errors = [_difference(a, b) for a, b in zip(expected, self._run(network), strict=True)]
        if max(errors, default=0.0) <= _CALM * self.tolerance:
            return False
        gain, *self.gains = self.gains
        _randomised(self.model, generator, gain)
        return True

    def following(self, blocks: Sequence[BlockUnit]) -> dict[BlockUnit, str]:
        """Return the blocks whose output does not follow the argument while their layers are silent, and why."""
        silent, found = copy.deepcopy(self.model), dict[BlockUnit, str]()
        parameters = dict(silent.named_parameters())
        with torch.no_grad():
            for layer in self.network.layers:
                if any(block.holds(layer.weight) for block in blocks):
                    for name in (layer.weight, layer.weight.removesuffix("weight") + "bias"):
                        if name in parameters:
                            parameters[name].zero_()
        for block in blocks:
            _watch(silent.get_submodule(block.name), block, found)
        try:
            self._run(silent)
        except Exception as error:
            return dict.fromkeys(blocks, f"the model with silent layers raises {_described(error)}")
        return found

    def runs_in_training(self) -> bool:
        """Tell whether the dense model runs on the example in training mode."""
        try:
            self._run(copy.deepcopy(self.model).train())
        except Exception:
            return False
        return True

    def training(self, items: Sequence[Item]) -> str | None:
        """Return why the sliced model does not run in training mode, or None."""
        try:
            self._run(self.surgeon.build(*self._chosen(items, 0)).train())
        except Exception as error:
            return f"the sliced model raises in training {_described(error)}"
        return None

    def _chosen(self, items: Sequence[Item], number: int) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Return what round `number` keeps of the units among the items, and the names of the blocks."""
        units = [item for item in items if isinstance(item, ChannelUnit)]
        blocks = [item.name for item in items if isinstance(item, BlockUnit)]
        kept = {unit.name: _subset(unit, self.place[unit.name], number) for unit in units}
        return kept, [name for name in blocks if number < _JOINT or _rng(number, name).random() < _DROPPED]

    def _run(self, model: nn.Module) -> list[torch.Tensor]:
        # a model may change its input
        example = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, self.example)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), without_fused_layers():
            torch.manual_seed(0)  # noise of the model's own
            outputs = tensors_in(run(model, example))
            return [(torch.view_as_real(out) if out.is_complex() else out).to(self.dtype) for out in outputs]

    def _input(self, leaf: Any, fresh: bool, generator: torch.Generator) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
            return leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf
        if fresh:
            return torch.randn(leaf.shape, generator=generator, dtype=self.dtype)
        return leaf.detach().cpu().to(self.dtype)


def _watch(module: nn.Module, block: BlockUnit, found: dict[BlockUnit, str]) -> None:
    """Note in `found` if what a block returns does not follow the argument that takes its place."""
    given: list[list[Any]] = []

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        chosen = returned(block.returns, args, kwargs)
        given.append([arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in chosen])

    def after(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        operands = given.pop()
        for operand, result in zip(operands, (out,) if isinstance(out, torch.Tensor) else out, strict=True):
            # a mask of infinities that is passed through has no correlation
            follows = not isinstance(result, torch.Tensor) or torch.equal(operand, result)
            if not follows and not _correlation(operand, result) > _FOLLOWS:
                found[block] = "what it returns does not follow what it is given"

    module.register_forward_pre_hook(before, with_kwargs=True)
    module.register_forward_hook(after, with_kwargs=True)


def _correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Return the correlation of the elements of two tensors, 1 where the first is constant."""
    a, b = first.double() - first.double().mean(), second.double() - second.double().mean()
    return float((a * b).sum() / (a.norm() * b.norm())) if a.any() else 1.0


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two tensors, relative to the largest finite entry of the first."""
    if not a.numel():
        return 0.0
    difference = (a - b).abs().masked_fill(a == b, 0)
    return float(difference.max()) / max(float(a.abs().masked_fill(a.isinf(), 0).max()), 1e-30)


def _randomised(model: nn.Module, generator: torch.Generator, gain: float = 1.0) -> nn.Module:
    """Fill a model with random values that keep activations near unit scale; fresh models hide errors behind zeros.

    A `gain` below 1 makes weights, but not norms, smaller.
    """

    def normal(tensor: torch.Tensor, std: float) -> torch.Tensor:
        # made in single precision, in a third of the time
        return (torch.randn(tensor.shape, generator=generator) * std).to(tensor.dtype)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                fan_in = parameter.numel() // max(1, parameter.size(0))
                parameter.copy_(normal(parameter, gain * math.sqrt(2 / max(1, fan_in))))
            else:
                parameter.copy_(1 + normal(parameter, 0.2))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                mean, variance = module.running_mean, cast(torch.Tensor, module.running_var)
                mean.copy_(normal(mean, 0.2))
                variance.copy_(normal(variance, 0.2).abs() + 0.8)
    return model


def _subset(unit: ChannelUnit, place: int, number: int) -> torch.Tensor:
    """Return the atoms of the unit in this place that round `number` keeps, equally many in every group.

    Every unit loses a random part in the first round. Then the first atoms of every second unit are kept, so
    that what is split in the middle, or shared by two units, becomes uneven; then come random recipes.
    """
    rng = _rng(number, unit.name)
    per_group = unit.atoms // unit.groups
    keep = int(rng.integers(1, per_group + (number >= _JOINT)))
    if number in (1, 2):
        keep = keep if place % 2 == number - 1 else per_group
        picks = [np.arange(keep)] * unit.groups
    else:
        picks = [np.sort(rng.permutation(per_group)[:keep]) for _ in range(unit.groups)]
    return torch.from_numpy(np.concatenate([group * per_group + pick for group, pick in enumerate(picks)]))


def _rng(number: int, name: str) -> np.random.Generator:
    return np.random.default_rng([number, zlib.crc32(name.encode())])


def _with_fixed(network: Network, bad: Mapping[Item, str]) -> Network:
    """Return the network with the units and blocks in `bad` fixed for these reasons."""
    if not bad:
        return network
    units = {item.name for item in bad if isinstance(item, ChannelUnit)}

    def dim(old: Dim) -> Dim:
        if old.units.isdisjoint(units):
            return old
        spans = tuple(Span(None, 0, span.entries) if span.unit in units else span for span in old.spans)
        if all(span.unit is None for span in spans):
            return Dim((Span(None, 0, old.length),), reads=old.reads)
        return replace(old, spans=spans)

    fixed = [FixedChannels(unit.name, unit.channels, bad[unit]) for unit in network.units if unit in bad]
    fixed_blocks = [FixedBlock(block.name, bad[block]) for block in network.blocks if block in bad]
    return replace(
        network,
        units=tuple(unit for unit in network.units if unit not in bad),
        fixed=(*network.fixed, *fixed),
        tensors=tuple(replace(t, dims=tuple(map(dim, t.dims))) for t in network.tensors),
        leaves=tuple(replace(leaf, reads=dim(leaf.reads), writes=dim(leaf.writes)) for leaf in network.leaves),
        products=tuple(replace(product, dims=tuple(map(dim, product.dims))) for product in network.products),
        reductions=tuple(entry for old in network.reductions if (entry := replace(old, dim=dim(old.dim))).dim.units),
        blocks=tuple(block for block in network.blocks if block not in bad),
        fixed_blocks=(*network.fixed_blocks, *fixed_blocks),
    )


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:120]}"


class _Uses(TorchDispatchMode):
    """Notes in `found` the name of a tensor of the model that is used while the mode is on, if one is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.found: str | None = None
        self._names = {id(tensor): name for name, tensor in (*model.named_parameters(), *model.named_buffers())}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            self.found = self.found or self._names.get(id(leaf))
        return func(*args, **(kwargs or {}))
