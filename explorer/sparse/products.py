"""Products of a masked matrix and a matrix of inputs, a column a position: dense tiles, or row after row (CSR)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.sparse.matrix import Matrix

__all__ = ["Csr", "Product", "Tile", "Tiles"]

Tile = tuple[int, Tensor, Tensor]
"""A group, and the rows and the columns of its matrix that a tile keeps."""


class Product(nn.Module):
    """``weight.T @ inputs`` for a masked weight of all groups.

    Parameters
    ----------
    outputs
        Columns of the weight.
    reads
        Numbers of the input entries that are needed together, in ascending order; see `Matrix.rows`.
    """

    # positions at a time with which it is fastest; more would not stay in a core's cache
    positions: int

    def __init__(self, outputs: int, reads: Sequence[Tensor]) -> None:
        super().__init__()
        self.outputs = outputs
        self.lengths = tuple(len(read) for read in reads)
        self.register_buffer("rows", torch.cat([*reads]), persistent=False)

    rows: Tensor

    def reads(self) -> tuple[Tensor, ...]:
        """Return the numbers of the input entries that are needed together."""
        return self.rows.split(self.lengths)

    def forward(self, inputs: Callable[[int], Tensor], out: Tensor) -> None:
        """Write the product ``[outputs, m]`` to `out`.

        Parameters
        ----------
        inputs
            From a number to the input entries ``[rows, m]`` of ``reads()[number]``, good until it is called again.
        out
            Need not be contiguous.
        """
        raise NotImplementedError


class Tiles(Product):
    """Dense products of tiles of the matrix, each with the input entries that its rows read.

    Parameters
    ----------
    matrix
        The matrices.
    tiles
        Tiles outside which all entries are zero. No two have a column in common.
    """

    positions = 800
    entries: Tensor
    places: Tensor

    def __init__(self, matrix: Matrix, tiles: Sequence[Tile]) -> None:
        groups, _, outputs = matrix.entries.shape
        reads, entries, columns = [], [], []
        for group, rows, own in tiles:
            numbers, order = matrix.rows[group, rows].sort()
            reads.append(numbers)
            entries.append(matrix.entries[group, rows[order]][:, own])
            columns.append(own + group * outputs)
        super().__init__(groups * outputs, reads)
        self.widths = tuple(tile.shape[1] for tile in entries)
        self.width = sum(self.widths)
        self.register_buffer("entries", torch.cat([tile.flatten() for tile in entries]), persistent=False)
        # columns of no tile are found behind the last of the others
        places = torch.full((self.outputs,), self.width, device=matrix.rows.device)
        places[torch.cat(columns)] = torch.arange(self.width, device=places.device)
        self.register_buffer("places", places, persistent=False)

    def tiles(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield every tile's columns among those of all tiles, and its entries ``[rows, columns]``."""
        sizes = [rows * columns for rows, columns in zip(self.lengths, self.widths, strict=True)]
        start = 0
        for width, entries in zip(self.widths, self.entries.split(sizes), strict=True):
            yield slice(start, start + width), entries.view(-1, width)
            start += width

    def forward(self, inputs: Callable[[int], Tensor], out: Tensor) -> None:
        compact = out.new_empty(self.width + 1, out.shape[1])
        compact[-1] = 0
        for number, (columns, entries) in enumerate(self.tiles()):
            torch.mm(entries.t(), inputs(number), out=compact[columns])
        torch.index_select(compact, 0, self.places, out=out)


class Csr(Product):
    """Sums of input entries, for every output those with which it has a weight.

    Parameters
    ----------
    matrix
        The matrices.
    keep
        Entries outside which all are zero, bool of the matrices' shape.
    """

    positions = 128
    entries: Tensor
    indices: Tensor
    offsets: Tensor

    def __init__(self, matrix: Matrix, keep: Tensor) -> None:
        group, column, row = keep.transpose(1, 2).nonzero(as_tuple=True)
        reads, indices = matrix.rows[group, row].unique(return_inverse=True)
        super().__init__(keep.shape[0] * keep.shape[2], [reads])
        self.register_buffer("entries", matrix.entries[group, row, column], persistent=False)
        self.register_buffer("indices", indices.int(), persistent=False)
        offsets = F.pad(keep.sum(1).flatten().cumsum(0), (1, 0))
        self.register_buffer("offsets", offsets.int(), persistent=False)

    def forward(self, inputs: Callable[[int], Tensor], out: Tensor) -> None:
        taken = inputs(0)
        if taken.is_cuda:
            shape = (self.outputs, len(taken))
            out.copy_(torch.sparse_csr_tensor(self.offsets, self.indices, self.entries, shape) @ taken)
            return
        # a weighted bag a row: on a CPU about twice as fast as torch's CSR matrices
        bags = F.embedding_bag(
            self.indices, taken, self.offsets, mode="sum", per_sample_weights=self.entries, include_last_offset=True
        )
        out.copy_(bags)
