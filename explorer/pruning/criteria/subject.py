"""What is scored."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from explorer.data import Batch
from explorer.data.task import Task
from explorer.pruning.criteria.channels import ChannelSums, weight_names
from explorer.pruning.criteria.options import Options
from explorer.utils.modules import device_of, modes_restored
from spaces import Network, PruningError

__all__ = ["Subject"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, the options of a criterion, and the batches that the criterion may look at."""

    model: nn.Module
    network: Network
    options: Options
    batches: Sequence[Batch]
    task: Task | None

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Parameters and buffers by name: a buffer can be a convolution's weight too (a fixed blur)."""
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The weights that are scored, as they are in the model."""
        return {name: self.tensors[name] for name in weight_names(self.network)}

    def sums(self) -> ChannelSums:
        """Return an empty gathering of channel scores."""
        return ChannelSums(self.network, self.options)

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Let the model run in eval mode, outside inference mode; afterwards it and the random state are as before."""
        device = device_of(self.model)
        devices = [device] if device.type == "cuda" else []
        with torch.inference_mode(False), torch.random.fork_rng(devices), modes_restored(self.model):
            # for models that draw numbers in eval mode
            torch.manual_seed(0)
            self.model.eval()
            yield

    def check_reached(self, reached: Collection[str], why: str) -> None:
        """Refuse to score channels of whose weights data says nothing; log weights that will be scored 0.

        Parameters
        ----------
        reached
            Names of the weights that data says something of.
        why
            What it is that happened to the others.

        Raises
        ------
        PruningError
            If no weight of a unit, or of the network, is among them.
        """
        lost = [name for name in self.weights if name not in reached]
        known = frozenset[str]().union(*(self.network.tensor[name].units for name in reached))
        touched = frozenset[str]().union(*(self.network.tensor[name].units for name in lost))
        if lost and (touched - known or not reached):
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise PruningError(f"criterion: {self.options.name} can't score {lost[0]}{more} ({why})")
        if lost:
            log.warning("criterion: %s scores 0 for %s (%s)", self.options.name, ", ".join(lost), why)
