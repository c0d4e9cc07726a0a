"""Linear layers, and convolutions that are linear layers at every position, as products with a masked matrix."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.pruning.sparse.matrix import Form, Layer, transposed
from explorer.pruning.sparse.products import Csr, Product
from spaces import Pattern

__all__ = ["BlockLinear", "ChannelsLast", "ProductLinear", "SemiStructuredLinear"]

# rows at a time: what is gathered of them stays in a core's second cache
_ROWS = 256
# so many reads of each input pay for transposing them: then gathers copy runs
_READS = 4


class ProductLinear(Form):
    """A linear layer as a product with its inputs, gathered for what a pattern keeps and no others.

    Parameters
    ----------
    layer
        The layer; a convolution is one of every position's channels.
    product
        What computes with its weight.
    """

    def __init__(self, layer: Layer, product: Product) -> None:
        super().__init__(layer)
        self.product = product
        self.transposing = isinstance(product, Csr) or len(product.rows) > _READS * layer.weight.shape[1]

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        """Return [..., N] of an input [..., K]."""
        flat = input.reshape(-1, input.shape[-1]).contiguous()
        y = flat.new_empty(len(flat), self.product.outputs)
        step = self.product.at_once(flat)
        step = min(step, _ROWS) if flat.device.type == "cpu" else step
        compute = self.product.begin(across=True)
        reader = _Reader(self.product.reads(), self.transposing, flat[:step])
        for part, out in zip(flat.split(step), y.split(step), strict=True):
            compute(reader.of(part), out)
        if self.bias is not None:
            y += self.bias
        return y.view(*input.shape[:-1], y.shape[1])


class _Reader:
    """The columns of a matrix that a product's reads name, for one part of its rows after the other.

    Parameters
    ----------
    reads
        Numbers of columns.
    transposing
        Whether parts are transposed before: then columns are copied whole.
    largest
        As many rows as any part has.
    """

    def __init__(self, reads: Sequence[Tensor], transposing: bool, largest: Tensor) -> None:
        self.reads, self.transposing, self.source, self.length = reads, transposing, largest, -1
        self.workspace = largest.new_empty(max(map(len, reads)) * len(largest))
        self.places: list[Tensor] = []
        self.taken: list[Tensor] = []

    def of(self, part: Tensor) -> _Reader:
        """Return the reader of some rows."""
        if len(part) != self.length:
            self.length = len(part)
            sizes = [(len(read), len(part)) if self.transposing else (len(part), len(read)) for read in self.reads]
            self.places = [self.workspace[: rows * columns].view(rows, columns) for rows, columns in sizes]
            self.taken = self.places if self.transposing else [place.t() for place in self.places]
        self.source = transposed(part) if self.transposing else part
        return self

    def __call__(self, number: int) -> Tensor:
        """Return the columns of one read as rows."""
        torch.index_select(self.source, 0 if self.transposing else 1, self.reads[number], out=self.places[number])
        return self.taken[number]


class BlockLinear(Form):
    """A linear layer with torch's block-sparse matrices (BSR).

    Parameters
    ----------
    layer
        The layer; blocks divide its weight.
    pattern
        The blocks' height (along the inputs) and width.
    """

    blocks: Tensor

    def __init__(self, layer: nn.Linear, pattern: Pattern) -> None:
        super().__init__(layer)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse BSR tensor support is in beta")
            blocks = layer.weight.detach().to_sparse_bsr((pattern.width, pattern.height))
        self.register_buffer("blocks", blocks, persistent=False)

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        """Return [..., N] of an input [..., K]."""
        if input.is_cuda:
            return F.linear(input, self.blocks, self.bias)
        flat = input.reshape(-1, input.shape[-1])
        y = transposed((self.blocks @ flat.t()).contiguous())
        if self.bias is not None:
            y += self.bias
        return y.view(*input.shape[:-1], y.shape[1])


class SemiStructuredLinear(Form):
    """A linear layer with 2:4 sparse tensor cores, where torch and the GPU have them for its type and sizes."""

    structured: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__(layer)
        structured = torch.sparse.to_sparse_semi_structured(layer.weight.detach())
        self.register_buffer("structured", structured, persistent=False)

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        """Return [..., N] of an input [..., K]."""
        return F.linear(input, self.structured, self.bias)


class ChannelsLast(Form):
    """A convolution of single positions as a linear layer, on images with channels innermost."""

    def __init__(self, conv: nn.Conv2d, linear: ProductLinear) -> None:
        super().__init__(conv)
        self.linear, self.stride = linear.part(), conv.stride

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        """Return [B, N, H', W'] of an input [B, C, H, W], with channels innermost."""
        high, wide = self.stride
        y: Tensor = self.linear(input[:, :, ::high, ::wide].permute(0, 2, 3, 1))
        if self.bias is not None:
            y += self.bias
        return y.permute(0, 3, 1, 2)
