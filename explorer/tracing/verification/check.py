"""The check of some units and blocks: masked must equal sliced."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from explorer.pruning.surgery import Surgeon
from explorer.pruning.surgery.skeleton import copied
from explorer.tracing.returned import Outputs, counting
from explorer.tracing.tape import tensors_in
from explorer.tracing.verification.comparison import difference
from explorer.tracing.verification.following import astray
from explorer.tracing.verification.masking import masked
from explorer.tracing.verification.random_weights import randomised
from explorer.tracing.verification.rounds import Rounds
from explorer.tracing.verification.sifting import Item
from explorer.utils.modules import run, without_fused_layers
from spaces import BlockUnit, ChannelUnit, Network, PruningError, first_line

__all__ = ["Check", "UncheckableError"]

_LARGE = 200_000_000
# random weights are made smaller by these where rounding errors do not stay this far below the tolerance: a deep
# network with gates multiplies them by up to a billion
_GAINS, _CALM = (0.7, 0.5, 0.35), 0.1


class UncheckableError(Exception):
    """The dense model does not run with random parameters."""


class Check:
    """Compares the masked with the sliced network on proper subsets of some units, without some blocks."""

    def __init__(self, model: nn.Module, network: Network, examples: Sequence[Any], outputs: Outputs = None) -> None:
        self.network, self.outputs = network, outputs
        self.gains = list(_GAINS)
        self.rounds = Rounds(network.units)
        small = sum(p.numel() for p in model.parameters()) <= _LARGE
        precisions = [(torch.float64, 1e-9)] * small + [(torch.float32, 1e-3)]
        problem = ""
        # an input may have to be what it is (a mask, an image of positive values), a model may insist on float32
        for (self.dtype, self.tolerance), fresh in itertools.product(precisions, (True, False)):
            generator = torch.Generator().manual_seed(0)
            try:
                self.model = randomised(_cast(copied(model).cpu().eval(), self.dtype), generator)
            except Exception as error:
                raise PruningError(f"model: it cannot be copied, {_described(error)}") from error
            self.examples = [
                tree_map(lambda leaf, fresh=fresh, g=generator: self._input(leaf, fresh, g), example)
                for example in examples
            ]
            found, uses = [], _Uses(model)
            try:
                with uses:
                    found = self.run(self.model)
            except Exception as error:
                problem = problem or _described(error)
            if uses.found is not None:
                raise UncheckableError(f"a copy of the model still runs {uses.found} of the dense one")
            if not found:
                continue
            # a model may mask out with minus infinity
            if all(bool((out < math.inf).all()) and bool(out.isfinite().any()) for out in found if out.numel()):
                self.surgeon = Surgeon(self.model, network)
                return
            problem = problem or "its outputs are not finite"
        raise UncheckableError(f"cannot be verified, the model fails with random parameters ({problem})")

    def of(self, network: Network) -> Check:
        """Return the check, with the same random weights, of another network of the model."""
        other = copy.copy(self)
        other.network, other.surgeon = network, Surgeon(self.model, network)
        return other

    def __call__(self, items: Sequence[Item], number: int) -> str | None:
        """Return why slicing these units in round `number` and dropping these blocks is wrong, or None."""
        kept, dropped = self._chosen(items, number)
        try:
            got = self.run(self.surgeon.build(kept, dropped))
        except Exception as error:
            return f"the sliced model raises {_described(error)}"
        dense = masked(self.model, self.network, kept, dropped)
        expected = self.run(dense)
        if len(expected) != len(got):
            return f"the sliced model returns {len(got)} tensors instead of {len(expected)}"
        for a, b in zip(expected, got, strict=True):
            if a.shape != b.shape:
                return f"the sliced model returns {list(b.shape)} instead of {list(a.shape)}"
            if not (apart := difference(a, b)) <= self.tolerance:
                if self.calmed(expected, dense):
                    return self(items, number)
                return f"the sliced model differs from the masked one by {apart:.1e}"
        return None

    def calmed(self, expected: Sequence[torch.Tensor], network: nn.Module) -> bool:
        """Tell whether rounding errors could pass for mistakes in a masked network; then weights are made smaller."""
        if not self.gains:
            return False
        generator = torch.Generator().manual_seed(0)
        # some of them are the dense model's
        exact = [(parameter, parameter.detach().clone()) for parameter in network.parameters()]
        with torch.no_grad():
            for parameter, _ in exact:
                noise = torch.randn(parameter.shape, generator=generator).to(self.dtype)
                parameter.mul_(1 + torch.finfo(self.dtype).eps * noise)
            errors = [difference(a, b) for a, b in zip(expected, self.run(network), strict=True)]
            for parameter, value in exact:
                parameter.copy_(value)
        if max(errors, default=0.0) <= _CALM * self.tolerance:
            return False
        gain, *self.gains = self.gains
        randomised(self.model, generator, gain)
        return True

    def following(self, blocks: Sequence[BlockUnit]) -> dict[BlockUnit, str]:
        """Return the blocks whose output does not follow the argument while the layers of all are silent, and why."""
        try:
            return astray(self.model, self.network, blocks, self.run)
        except Exception as error:
            return dict.fromkeys(blocks, f"the model with silent layers raises {_described(error)}")

    def runs_in_training(self) -> bool:
        """Tell whether the dense model runs on the example in training mode."""
        try:
            self.run(copy.deepcopy(self.model).train())
        except Exception:
            return False
        return True

    def training(self, items: Sequence[Item]) -> str | None:
        """Return why the sliced model does not run in training mode, or None."""
        try:
            self.run(self.surgeon.build(*self._chosen(items, 0)).train())
        except Exception as error:
            return f"the sliced model raises in training {_described(error)}"
        return None

    def _chosen(self, items: Sequence[Item], number: int) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Return what round `number` keeps of the units among the items, and the names of the blocks."""
        units = [item for item in items if isinstance(item, ChannelUnit)]
        blocks = [item.name for item in items if isinstance(item, BlockUnit)]
        kept = {unit.name: self.rounds.subset(unit, number) for unit in units}
        return kept, [name for name in blocks if self.rounds.without(name, number)]

    def run(self, model: nn.Module) -> list[torch.Tensor]:
        """Return the tensors that a model makes of the example."""
        found = []
        with torch.random.fork_rng(devices=[]), torch.no_grad(), without_fused_layers():
            for example in self.examples:
                # a model may change its input
                inputs = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, example)
                torch.manual_seed(0)  # noise of the model's own
                found += tensors_in(counting(run(model, inputs), self.outputs))
        return [(torch.view_as_real(out) if out.is_complex() else out).to(self.dtype) for out in found]

    def _input(self, leaf: Any, fresh: bool, generator: torch.Generator) -> Any:
        if not isinstance(leaf, torch.Tensor) or not (leaf.is_floating_point() or leaf.is_complex()):
            return leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf
        if fresh:
            return torch.randn(leaf.shape, generator=generator, dtype=_like(leaf, self.dtype))
        return leaf.detach().cpu().to(_like(leaf, self.dtype))


def _cast(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return the model with its real tensors in a dtype, and its complex ones in the one of the same precision."""
    return model._apply(lambda t: t.to(_like(t, dtype)) if t.is_floating_point() or t.is_complex() else t)


def _like(tensor: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    return dtype.to_complex() if tensor.is_complex() else dtype


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


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)[:120]}"
