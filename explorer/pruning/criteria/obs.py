"""Optimal Brain Surgeon: the error that is left once all other weights have made up for what is removed.

Inputs of layers are looked at, at some places of each training input; nothing is differentiated.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from explorer.data import size_of
from explorer.pruning.criteria.magnitude import Named
from explorer.pruning.criteria.subject import Subject
from explorer.pruning.patterns import gemm_of, weight_of
from explorer.pruning.reconstruction.places import Places, marks_of
from explorer.pruning.reconstruction.products import Product, product_of
from explorer.pruning.reconstruction.targets import Owners
from explorer.pruning.surgery import Atoms
from explorer.utils.modules import run, without_fused_layers, without_fused_recurrence
from spaces import PruningError, first_line

__all__ = ["channels", "weights"]

# places of each input that are looked at, the weight of the ridge over the mean square of inputs, and the most inputs
# that a layer may have
_POSITIONS, _RIDGE, _WIDEST = 16, 0.01, 8192


def weights(subject: Subject) -> Named:
    """Return w^2 / [H^-1]_ii, the error that is left if one weight is removed and its column's others are updated.

    H are the products of a layer's inputs about their mean (Hassibi and Stork 1993; Frantar and Alistarh 2022). A layer
    that is too wide, or was not seen, has w^2.
    """
    grams = _grams(subject)
    for layer in subject.network.layers:
        weight = subject.tensors[layer.weight].detach().cpu().double()
        scores = gemm_of(subject.network, layer, weight).square()
        gram = grams.get(layer.weight)
        if gram is not None and gram.shape[:2] == scores.shape[:2]:
            scores = scores / torch.linalg.inv(gram).diagonal(dim1=1, dim2=2)[..., None]
        yield layer.weight, weight_of(subject.network, layer, scores, weight)


def channels(subject: Subject) -> dict[str, Tensor]:
    """Return for each channel the error that removing it, and all that are less important, leaves in its readers.

    Channels are removed one after the other, always the one that adds the least error after the remaining weights of
    the layers that read it have made up for it; errors are relative to what a layer gives. A unit that no layer with a
    known Gram matrix reads has the scores of ``l1``.
    """
    grams, atoms, sums = _grams(subject), Atoms(subject.network), subject.sums()
    for name, weight in subject.weights.items():
        sums.add_weight(name, weight.detach().cpu().double().abs())
    scores = sums.scores()
    for unit in subject.network.units:
        readers = list(_readers(subject, grams, atoms, unit.name))
        if readers:
            scores[unit.name] = _removed(readers, unit.atoms)
    return scores


def _removed(readers: list[_Reader], count: int) -> Tensor:
    """Return what has been lost when each of so many atoms leaves, the least important first."""
    order, left, total = torch.zeros(count, dtype=torch.float64), torch.ones(count, dtype=torch.bool), 0.0
    for _ in range(count):
        losses = sum(reader.losses() for reader in readers)
        assert isinstance(losses, Tensor)
        atom = int(losses.masked_fill(~left, torch.inf).argmin())
        total += max(0.0, float(losses[atom]))
        order[atom], left[atom] = total, False
        for reader in readers:
            reader.remove(atom)
    return order


@dataclass(eq=False)
class _Reader:
    """A layer that reads a unit's channels.

    Parameters
    ----------
    inverse
        Of its Gram matrix: ``[K, K]``.
    matrix
        Its weights, ``[K, N]``.
    rows
        Those of `matrix` that each atom has: ``[atoms, rows]``.
    level
        The square of what it gives.
    """

    inverse: Tensor
    matrix: Tensor
    rows: Tensor
    level: float

    def losses(self) -> Tensor:
        """Return for each atom the error that its removal adds."""
        blocks = self.inverse[self.rows[:, :, None], self.rows[:, None, :]]
        mine = self.matrix[self.rows]
        return (mine * torch.linalg.solve(blocks, mine)).sum((1, 2)) / self.level

    def remove(self, atom: int) -> None:
        """Remove an atom, and update what is left."""
        rows = self.rows[atom]
        factor = torch.linalg.solve(self.inverse[rows][:, rows], self.inverse[rows]).T
        self.matrix = self.matrix - factor @ self.matrix[rows]
        self.inverse = self.inverse - factor @ self.inverse[rows]
        # what is gone can be asked for again, and has no weights
        self.inverse[rows, rows] = 1.0


def _readers(subject: Subject, grams: Mapping[str, Tensor], atoms: Atoms, unit: str) -> Iterator[_Reader]:
    network, own = subject.network, atoms.numbers(unit)
    for layer in network.layers:
        read = next((dim for dim in network.tensor[layer.weight].dims[:2] if dim.reads and unit in dim.units), None)
        gram = grams.get(layer.weight)
        if read is None or gram is None or len(gram) > 1:
            continue
        matrix = gemm_of(network, layer, subject.tensors[layer.weight].detach().cpu().double())[0]
        labels = atoms.labels(read)
        kernel = len(gram[0]) // len(labels)
        places = [(labels.repeat(kernel) == number).nonzero().squeeze(1) for number in range(own.start, own.stop)]
        if len(matrix) == len(gram[0]) and {len(rows) for rows in places} == {len(places[0])} and len(places[0]):
            level = float((matrix * (gram[0] @ matrix)).sum())
            yield _Reader(torch.linalg.inv(gram[0]), matrix, torch.stack(places), max(level, 1e-300))


def _grams(subject: Subject) -> dict[str, Tensor]:
    """Return by weight the products of what a layer reads, about their mean and with a ridge: ``[groups, K, K]``."""
    gathered = _Gathered(subject.model, [layer.weight for layer in subject.network.layers])
    unfused = without_fused_recurrence(subject.model)
    with subject.borrowed(), torch.no_grad(), without_fused_layers(), unfused:
        for inputs, _ in subject.batches:
            gathered.places = Places(marks_of(inputs, size_of(inputs)), _POSITIONS, 0)
            try:
                with gathered:
                    run(subject.model, inputs)
            except Exception as error:
                line = first_line(error)[:300]
                raise PruningError(f"criterion: obs: forward raised {type(error).__name__} ({line})") from None
    return {name: gathered.gram(name) for name in gathered.sums}


class _Gathered(TorchDispatchMode):
    """Adds up what layers read and its products, while it is entered."""

    places: Places

    def __init__(self, model: nn.Module, weights: Iterable[str]) -> None:
        super().__init__()
        self._owners, self._weights = Owners(model), frozenset(weights)
        self._products: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self.sums: dict[str, Tensor] = {}

    def gram(self, name: str) -> Tensor:
        sums = self.sums[name]
        gram = self._products[name] - sums[:, :, None] * sums[:, None] / self._counts[name]
        diagonal = gram.diagonal(dim1=1, dim2=2)
        diagonal.add_(_RIDGE * diagonal.mean(1, keepdim=True).clamp_min(1e-12))
        return gram

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **kwargs or {})
        product = None if kwargs else product_of(func, args)
        name = None if product is None else self._owners.name(product.weight)
        if product is not None and name in self._weights and product.matrices(product.weight).size(1) <= _WIDEST:
            self._add(str(name), product, out)
        return out

    def _add(self, name: str, product: Product, out: Tensor) -> None:
        total = out.numel() // max(1, out.size(1))
        at = self.places.rows(total, out.device)
        rows = product.rows(self.places.taps(product.geometry, total, out.device), slice(0, len(at))).double()
        products, sums = (rows.transpose(1, 2) @ rows).cpu(), rows.sum(1).cpu()
        if name not in self.sums:
            self._products[name], self.sums[name], self._counts[name] = products, sums, len(at)
        elif self.sums[name].shape == sums.shape:
            self._products[name] += products
            self.sums[name] += sums
            self._counts[name] += len(at)
