"""What is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn

from explorer.criteria.channels import ChannelSums, weight_names
from explorer.criteria.options import Options
from explorer.data import Batch
from explorer.task import Task
from spaces import Network

__all__ = ["Subject"]


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
        named = self.model.named_parameters(remove_duplicate=False)
        return {**dict(named), **dict(self.model.named_buffers(remove_duplicate=False))}

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The weights that are scored, as they are in the model."""
        return {name: self.tensors[name] for name in weight_names(self.network)}

    def sums(self) -> ChannelSums:
        """Return an empty gathering of channel scores."""
        return ChannelSums(self.network, self.options)
