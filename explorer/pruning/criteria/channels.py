"""From scores of weights to scores of channels, over all tensors that are coupled in a unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from explorer.pruning.criteria.options import Options
from explorer.pruning.surgery import Atoms
from spaces import Dim, Network

__all__ = ["ChannelSums", "by_channel", "weight_names"]

_NORMALIZERS: Mapping[str, Callable[[Tensor], Tensor | float]] = {
    # whatever is summed or averaged is 0 or more: the bound is for tensors of zeros
    "mean": lambda entries: entries.mean().clamp_min(1e-300),
    "max": lambda entries: entries.max().clamp_min(1e-300),
    "sum": lambda entries: entries.sum().clamp_min(1e-300),
    "none": lambda entries: 1.0,
}
# of the total before and a member's values
_REDUCTIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "mean": torch.add,
    "max": torch.maximum,
    "prod": torch.mul,
}


class ChannelSums:
    """The scores of all channels, gathered from one member of their units after the other.

    A *member* is a dimension of a tensor whose entries belong to channels: the filters that write them, the inputs of
    their readers. In a member the scores of a channel become one number by the ``norm`` and are divided by the
    ``normalizer`` of all the member's entries, so that no member outvotes the others by its scale; the ``reduction``
    makes one number of all members'.

    Parameters
    ----------
    network
        The network.
    options
        Of the criterion.
    """

    def __init__(self, network: Network, options: Options) -> None:
        self._network = network
        self._options = options
        self._atoms = Atoms(network)
        # float64 on the CPU: sums do not depend on the number of threads that make them
        size = len(self._atoms.alive({}))
        self._total = torch.full((size,), 1.0 if options.reduction == "prod" else 0.0, dtype=torch.float64)
        self._members = torch.zeros(size, dtype=torch.int64)

    def add_weight(self, name: str, scores: Tensor) -> None:
        """Add the members in one weight.

        Parameters
        ----------
        name
            The weight's.
        scores
            Of its shape, float64 on the CPU, 0 or more.
        """
        squared = self._options.norm == "l2"
        sizes = scores.square() if squared else scores
        for axis, dim in enumerate(self._network.tensor[name].dims):
            if dim.units:
                self._add(dim, by_channel(sizes, axis, dim.groups).sum(1), squared=squared)

    def add(self, dim: Dim, entries: Tensor) -> None:
        """Add a member by one number for each of its entries, float64 on the CPU, 0 or more."""
        squared = self._options.norm == "l2"
        self._add(dim, entries.square() if squared else entries, squared=squared)

    def _add(self, dim: Dim, entries: Tensor, *, squared: bool) -> None:
        labels = self._atoms.labels(dim)
        values = torch.zeros_like(self._total).index_add_(0, labels, entries)
        if squared:
            entries, values = entries.sqrt(), values.sqrt()
        values /= _NORMALIZERS[self._options.normalizer](entries)
        inside = torch.zeros_like(self._members).index_fill_(0, labels, 1)
        reduced = _REDUCTIONS[self._options.reduction](self._total, values)
        self._total = torch.where(inside > 0, reduced, self._total)
        self._members += inside

    def missing(self) -> list[str]:
        """Return the units that no member was added of."""
        return [unit.name for unit in self._network.units if not self._members[self._atoms.numbers(unit.name)].all()]

    def scores(self) -> dict[str, Tensor]:
        """Return a score for every atom of every unit."""
        total = self._total
        if self._options.reduction == "mean":
            total = total / self._members.clamp_min(1)
        return {unit.name: total[self._atoms.numbers(unit.name)].clone() for unit in self._network.units}


def by_channel(weight: Tensor, axis: int, groups: int) -> Tensor:
    """Return a weight as ``[entries, rest]``: a row for each entry of one of its dimensions.

    Parameters
    ----------
    weight
        As torch stores it.
    axis
        The dimension.
    groups
        The groups of the dimension, see `spaces.Dim`. Above 1 there is a row for each channel of each group.
    """
    if groups > 1:
        weight = weight.unflatten(0, (groups, -1)).movedim(axis + 1, 1).flatten(0, 1)
    else:
        weight = weight.movedim(axis, 0)
    return weight.flatten(1)


def weight_names(network: Network) -> list[str]:
    """Return the names of the tensors that channels are multiplied with: the layers' weights and those of products.

    Products have weights where some entries are multiplied more often than others, as in cross-attention. Biases,
    norms and embeddings go with their channels, but say nothing of them here.
    """
    layers = dict.fromkeys(layer.weight for layer in network.layers)
    products = (tensor.name for tensor in network.tensors if any(dim.reads and dim.units for dim in tensor.dims))
    return list(dict.fromkeys([*layers, *products]))
