"""Averaged weights: an exponential moving average of a network's tensors over the steps of its training."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from explorer.utils.modules import tensors_of

__all__ = ["Average"]


class Average:
    """The moving average of a network's floating-point parameters and buffers.

    What is zero at every step, as a pruned weight is, stays zero. Early steps count more than the decay says, because
    the first weights are no good guess of the average.

    Parameters
    ----------
    model
        Whose tensors are averaged.
    decay
        Share of the average that stays at a step, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._live = {name: value for name, value in tensors_of(model).items() if value.is_floating_point()}
        self._kept = {name: value.detach().clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the network's tensors after a step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self._kept.values()), [value.detach() for value in self._live.values()], 1 - decay)

    @torch.no_grad()
    def put(self) -> None:
        """Give the network the averages in place of its own tensors."""
        for name, value in self._live.items():
            value.copy_(self._kept[name])

    def state(self) -> dict[str, object]:
        """Return what `load` takes."""
        return {"steps": self.steps, "kept": self._kept}

    @torch.no_grad()
    def load(self, state: Mapping[str, object]) -> None:
        """Continue from a state."""
        self.steps = int(state["steps"])  # type: ignore[call-overload]
        for name, value in state["kept"].items():  # type: ignore[attr-defined]
            self._kept[name].copy_(value)
