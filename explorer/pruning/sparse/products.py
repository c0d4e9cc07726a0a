"""Products of a masked matrix and a matrix of inputs, a column a position: dense tiles, or row after row (CSR)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.pruning.sparse.matrix import Matrix, transposed

__all__ = ["Csr", "Inputs", "Product", "Tile", "Tiles"]

Tile = tuple[int, Tensor, Tensor]
"""A group, and the rows and the columns of its matrix that a tile keeps."""

# bytes of what is read for the positions that are computed at a time
_WORKSPACE = {"cpu": 2**22, "gpu": 2**28}

Inputs = Callable[[int], Tensor]
"""From a number to the input entries ``[rows, m]`` of ``reads()[number]``, good until it is called again."""


class Product(nn.Module):
    """``weight.T @ inputs`` for a masked weight of all groups.

    Parameters
    ----------
    outputs
        Columns of the weight.
    reads
        Numbers of the input entries that are needed together, in ascending order; see `Matrix.rows`.
    """

    # at a time, on a CPU
    positions: int
    rows: Tensor

    def __init__(self, outputs: int, reads: Sequence[Tensor]) -> None:
        super().__init__()
        self.outputs = outputs
        self.lengths = tuple(len(read) for read in reads)
        self.register_buffer("rows", torch.cat([*reads]), persistent=False)

    def reads(self) -> tuple[Tensor, ...]:
        """Return the numbers of the input entries that are needed together."""
        return self.rows.split(self.lengths)

    def at_once(self, x: Tensor) -> int:
        """Return how many positions of an input are best computed at a time, at least one."""
        cpu = x.device.type == "cpu"
        most = max(1, _WORKSPACE["cpu" if cpu else "gpu"] // (max(self.lengths) * x.element_size()))
        return min(most, self.positions) if cpu else most

    def begin(self, across: bool) -> Callable[[Inputs, Tensor], None]:
        """Return a function that writes the product with inputs to a tensor, which need not be contiguous.

        Parameters
        ----------
        across
            Whether the tensor is ``[m, outputs]``, instead of ``[outputs, m]``.
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
        self.shapes = tuple((len(tile), tile.shape[1]) for tile in entries)
        self.register_buffer("entries", torch.cat([tile.flatten() for tile in entries]), persistent=False)
        width = sum(columns for _, columns in self.shapes)
        # columns of no tile are found behind the last of the others
        places = torch.full((self.outputs,), width, device=matrix.rows.device)
        places[torch.cat(columns)] = torch.arange(width, device=places.device)
        self.register_buffer("places", places, persistent=False)

    def begin(self, across: bool) -> Callable[[Inputs, Tensor], None]:
        """Return a function that computes one tile after the other."""
        widths = [columns for _, columns in self.shapes]
        flat = self.entries.split([rows * columns for rows, columns in self.shapes])
        tiles = [tile.view(shape) for tile, shape in zip(flat, self.shapes, strict=True)]
        spaces: dict[int, tuple[Tensor, list[Tensor]]] = {}

        def space(out: Tensor) -> tuple[Tensor, list[Tensor]]:
            """Return where all tiles' outputs go, zeros behind them, and the place of each."""
            length = out.shape[0 if across else 1]
            if length not in spaces:
                # so many that the rows of any part begin at a multiple of a cache line
                none = 16 - sum(widths) % 16
                compact = out.new_empty((length, sum(widths) + none) if across else (sum(widths) + none, length))
                *parts, behind = compact.split([*widths, none], 1 if across else 0)
                behind.zero_()
                spaces[length] = compact, parts
            return spaces[length]

        def up(inputs: Inputs, out: Tensor) -> None:
            compact, parts = space(out)
            for number, tile in enumerate(tiles):
                torch.mm(tile.t(), inputs(number), out=parts[number])
            torch.index_select(compact, 0, self.places, out=out)

        def sideways(inputs: Inputs, out: Tensor) -> None:
            compact, parts = space(out)
            for number, tile in enumerate(tiles):
                torch.mm(inputs(number).t(), tile, out=parts[number])
            torch.index_select(compact, 1, self.places, out=out)

        return sideways if across else up


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

    def begin(self, across: bool) -> Callable[[Inputs, Tensor], None]:
        """Return a function that sums up one output after the other."""
        shape = (self.outputs, *self.lengths)

        def compute(inputs: Inputs, out: Tensor) -> None:
            taken = inputs(0)
            if taken.is_cuda:
                sums = torch.sparse_csr_tensor(self.offsets, self.indices, self.entries, shape) @ taken
            else:
                # a bag of weighted inputs for every output: about twice as fast as torch's CSR matrices
                sums = F.embedding_bag(
                    self.indices,
                    taken,
                    self.offsets,
                    mode="sum",
                    per_sample_weights=self.entries,
                    include_last_offset=True,
                )
            out.copy_(transposed(sums) if across else sums)

        return compute
