"""Every unit is checked when a model is traced: masked must equal sliced, or the unit is fixed."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from explorer.surgery import Surgeon, masked
from spaces import ChannelUnit, Dim, FixedChannels, Network, Run

__all__ = ["verified"]

_LARGE = 200_000_000
_JOINT_RECIPES = 3


def verified(model: nn.Module, network: Network, example: Any) -> Network:
    """Return `network` with every unit fixed whose sliced model crashes or differs from the masked one.

    A temporary copy with random parameters and statistics is used, in eval mode and float64 to a relative
    1e-9; above 200 M parameters in float32 to 1e-3. All units are checked at once and bisected on a mismatch,
    then three random joint recipes.
    """
    if not network.units:
        return network
    check = _Check(model, network, example)
    good, bad = _bisect(check, list(network.units))
    for _ in range(_JOINT_RECIPES):
        while good and (reason := check(good)):
            # single units passed: the last writers go first, since what comes late has fewer readers to lose
            bad[good.pop().name] = f"together with others: {reason}"
    return _with_fixed(network, bad)


def _bisect(check: _Check, units: list[ChannelUnit]) -> tuple[list[ChannelUnit], dict[str, str]]:
    """Return the units that pass together, and the reason for each other one."""
    reason = check(units)
    if reason is None:
        return units, {}
    if len(units) == 1:
        return [], {units[0].name: reason}
    middle = len(units) // 2
    good, bad = _bisect(check, units[:middle])
    more, worse = _bisect(check, units[middle:])
    bad |= worse
    if not good or not more or check(good + more) is None:
        return good + more, bad
    for unit in more:
        reason = check([*good, unit])
        if reason is None:
            good = [*good, unit]
        else:
            bad[unit.name] = f"together with others: {reason}"
    return good, bad


class _Check:
    """Compares the masked with the sliced network on random proper subsets of some units."""

    def __init__(self, model: nn.Module, network: Network, example: Any) -> None:
        parameters = sum(p.numel() for p in model.parameters())
        self.dtype, self.tolerance = (torch.float64, 1e-9) if parameters <= _LARGE else (torch.float32, 1e-3)
        self.network = network
        self.rng = np.random.default_rng(0)
        generator = torch.Generator().manual_seed(0)
        self.model = _randomised(copy.deepcopy(model).cpu().eval().to(self.dtype), generator)
        self.surgeon = Surgeon(self.model, network)
        self.example = tree_map(lambda leaf: self._random_like(leaf, generator), example)

    def __call__(self, units: Sequence[ChannelUnit]) -> str | None:
        """Return why slicing these units is wrong, or None."""
        from explorer.tracing import run

        kept = {unit.name: _subset(unit, self.rng) for unit in units}
        with torch.no_grad():
            expected = run(masked(self.model, self.network, kept), self.example)
            try:
                got = run(self.surgeon.build(kept), self.example)
            except Exception as error:
                line = (str(error).splitlines() or [""])[0][:120]
                return f"the sliced model raises {type(error).__name__}: {line}"
        for a, b in zip(_floats(expected), _floats(got), strict=False):
            if a.shape != b.shape:
                return f"the sliced model returns {list(b.shape)} instead of {list(a.shape)}"
            scale = float(a.abs().max()) if a.numel() else 0.0
            difference = float((a - b).abs().max()) if a.numel() else 0.0
            if not difference <= self.tolerance * max(scale, 1e-30):
                return f"the sliced model differs from the masked one by {difference / max(scale, 1e-30):.1e}"
        return None

    def _random_like(self, leaf: Any, generator: torch.Generator) -> Any:
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            return torch.randn(leaf.shape, generator=generator, dtype=self.dtype)
        return leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf


def _floats(output: Any) -> list[torch.Tensor]:
    leaves = tree_leaves(dict(output) if isinstance(output, Mapping) else output)
    return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]


def _randomised(model: nn.Module, generator: torch.Generator) -> nn.Module:
    """Fill a model with random values that keep activations near unit scale; fresh models hide errors behind zeros."""

    def normal(tensor: torch.Tensor, std: float) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) * std

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.copy_(normal(parameter, math.sqrt(2 / max(1, fan_in))))
            else:
                parameter.copy_(1 + normal(parameter, 0.2))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                module.running_mean.copy_(normal(module.running_mean, 0.2))
                module.running_var.copy_(normal(module.running_var, 0.2).abs() + 0.8)  # type: ignore[union-attr]
    return model


def _subset(unit: ChannelUnit, rng: np.random.Generator) -> torch.Tensor:
    """Return a random proper subset of a unit's atoms, equally many in every group."""
    per_group = unit.atoms // unit.groups
    keep = int(rng.integers(1, per_group))
    picks = [group * per_group + rng.permutation(per_group)[:keep] for group in range(unit.groups)]
    return torch.from_numpy(np.sort(np.concatenate(picks)))


def _with_fixed(network: Network, bad: Mapping[str, str]) -> Network:
    """Return the network with the units in `bad` (name -> reason) fixed."""
    if not bad:
        return network

    def dim(old: Dim) -> Dim:
        if old.units.isdisjoint(bad):
            return old
        runs = tuple(Run(None, 0, run.entries) if run.unit in bad else run for run in old.runs)
        if all(run.unit is None for run in runs):
            return Dim((Run(None, 0, old.length),), reads=old.reads)
        return replace(old, runs=runs)

    fixed = [FixedChannels(u.name, u.channels, str(bad[u.name])) for u in network.units if u.name in bad]
    return replace(
        network,
        units=tuple(unit for unit in network.units if unit.name not in bad),
        fixed=(*network.fixed, *fixed),
        tensors=tuple(replace(t, dims=tuple(map(dim, t.dims))) for t in network.tensors),
        leaves=tuple(replace(leaf, reads=dim(leaf.reads), writes=dim(leaf.writes)) for leaf in network.leaves),
    )
