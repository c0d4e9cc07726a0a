"""A convolution as products with its inputs, gathered for the rows that a pattern keeps and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as pairs

import torch
from torch import Tensor, nn

from explorer.pruning.sparse.matrix import Form, transposed
from explorer.pruning.sparse.products import Product

__all__ = ["Lowered"]

# runs of rows that read to the left or right, and those that read above or below: start, end, how far
_Edges = tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]


@dataclass(frozen=True)
class _Axis:
    """One dimension of a convolution's inputs and outputs.

    Every kernel position reads `shift` positions further on in one of the stride's phases.
    """

    stride: int
    padding: int
    window: int
    phases: tuple[int, ...]
    shifts: tuple[int, ...]

    @classmethod
    def of(cls, conv: nn.Conv2d, dim: int) -> _Axis:
        size, stride, dilation = conv.kernel_size[dim], conv.stride[dim], conv.dilation[dim]
        window = dilation * (size - 1)
        named = {"same": window, "valid": 0}
        padding = named[conv.padding] if isinstance(conv.padding, str) else 2 * conv.padding[dim]
        # torch puts the odd one of an odd padding behind
        reads = [divmod(dilation * place - padding // 2, stride) for place in range(size)]
        return cls(stride, padding, window, tuple(phase for _, phase in reads), tuple(shift for shift, _ in reads))

    def outputs(self, inputs: int) -> int:
        return (inputs + self.padding - self.window - 1) // self.stride + 1

    def grid(self, inputs: int) -> int:
        """Return how many positions hold a phase of the inputs, and all outputs."""
        return max(self.outputs(inputs), -(-inputs // self.stride))


@dataclass(frozen=True, eq=False)
class _Plan:
    """How a grid of a certain shape is gone through: `images` at a time, and of one image `rows` at a time.

    In a source every channel takes `pitch` entries; `before` and `after` are how far a position reads from itself.
    """

    images: int
    rows: int
    before: int
    after: int
    pitch: int
    offsets: tuple[Tensor, ...]


class Lowered(Form):
    """A convolution that gathers, for a band of positions at a time, what its product reads.

    With channels outermost, what a row of the matrix reads for consecutive positions is consecutive in memory, so that
    a gather copies long runs. Runs pass over the edges of the images; what they read there is set to zero. A strided
    convolution is one of stride 1 that reads every phase of the stride as channels of their own.

    Parameters
    ----------
    conv
        With zeros as padding.
    product
        What computes with its weight.
    """

    def __init__(self, conv: nn.Conv2d, product: Product) -> None:
        super().__init__(conv)
        self.product = product
        self.channels = conv.in_channels
        self.high, self.wide = _Axis.of(conv, 0), _Axis.of(conv, 1)
        self.phases = sorted(set(pairs(self.high.phases, self.wide.phases)))
        self.edges = [self._edges(numbers // self.channels) for numbers in product.reads()]
        self._plans: dict[object, _Plan] = {}

    @torch.no_grad()
    def forward(self, input: Tensor) -> Tensor:
        """Return [B, N, H', W'] of an input [B, C, H, W], in the input's memory layout."""
        high, wide = self.high.outputs(input.shape[2]), self.wide.outputs(input.shape[3])
        if not len(input):
            return input.new_empty(0, self.product.outputs, high, wide)
        y = self._run(self._grid(input))
        if y.shape[2:] == (high, wide):
            return y
        return y[:, :, :high, :wide].contiguous(memory_format=_layout(y))

    def _edges(self, position: Tensor) -> _Edges:
        """Return what of rows in ascending order, at these kernel positions, reads over edges."""
        high, wide = self.high.shifts, self.wide.shifts
        ends = [0, *torch.bincount(position, minlength=len(high) * len(wide)).cumsum(0).tolist()]
        sideways = [(ends[len(high) * i], ends[len(high) * (i + 1)], shift) for i, shift in enumerate(wide)]
        upwards = [(ends[i], ends[i + 1], high[i % len(high)]) for i in range(len(high) * len(wide))]
        some = [[edge for edge in edges if edge[0] < edge[1] and edge[2]] for edges in (sideways, upwards)]
        return some[0], some[1]

    def _grid(self, x: Tensor) -> Tensor:
        """Return the phases of an input as channels, on as many positions as outputs need."""
        size = self.high.grid(x.shape[2]), self.wide.grid(x.shape[3])
        if self.high.stride == self.wide.stride == 1 and x.shape[2:] == size:
            return x.contiguous(memory_format=_layout(x))
        grid = torch.empty(
            (len(x), len(self.phases) * self.channels, *size), dtype=x.dtype, device=x.device, memory_format=_layout(x)
        )
        grid.zero_()
        for (down, right), part in zip(self.phases, grid.split(self.channels, 1), strict=True):
            phase = x[:, :, down :: self.high.stride, right :: self.wide.stride]
            part[:, :, : phase.shape[2], : phase.shape[3]] = phase
        return grid

    def _plan(self, grid: Tensor, inner: bool) -> _Plan:
        batch, _, high, wide = grid.shape
        key = (grid.shape, inner, grid.dtype, grid.device)
        if key not in self._plans:
            most = self.product.at_once(grid)
            images = _even(batch, most // (high * wide))
            rows = high if images > 1 else _even(high, most // wide)
            shifts = [down * wide + right for down, right in pairs(self.high.shifts, self.wide.shifts)]
            before, after = max(0, -min(shifts)), max(0, *shifts)
            pitch = images * high * wide
            if inner or images > 1:
                # transposing is fastest for whole vectors
                pitch = -(-(pitch + before + after) // 16) * 16
            self._plans = {key: _Plan(images, rows, before, after, pitch, self._offsets(wide, before, pitch))}
        return self._plans[key]

    def _offsets(self, width: int, before: int, pitch: int) -> tuple[Tensor, ...]:
        """Return where in a source every row reads for the source's first position."""
        starts = [
            self.phases.index((down, right)) * self.channels * pitch + low * width + side + before
            for right, side in zip(self.wide.phases, self.wide.shifts, strict=True)
            for down, low in zip(self.high.phases, self.high.shifts, strict=True)
        ]
        rows = self.product.rows
        positions = rows // self.channels
        offsets = torch.tensor(starts, device=rows.device)[positions] + rows % self.channels * pitch
        return offsets.split(self.product.lengths)

    def _run(self, grid: Tensor) -> Tensor:
        """Return the outputs at all positions of the grid."""
        batch, _, high, wide = grid.shape
        size, outputs, inner = high * wide, self.product.outputs, not grid.is_contiguous()
        plan = self._plan(grid, inner)
        reader, compute = _Reader(plan, self.edges, grid), self.product.begin(across=inner)
        y = grid.new_empty((batch * size, outputs) if inner else (batch, outputs, size))
        for image in range(0, batch, plan.images):
            images = min(plan.images, batch - image)
            reader.source = self._source(grid, plan, image, images, inner)
            for top in range(0, high, plan.rows):
                first, length = reader.move(images, top, min(plan.rows, high - top))
                if inner:
                    out = y[image * size + first :][:length]
                else:
                    out = y[image, :, first : first + length] if plan.images == 1 else grid.new_empty(outputs, length)
                compute(reader, out)
                if self.bias is not None:
                    out += self.bias if inner else self.bias[:, None]
                if not inner and plan.images > 1:
                    y[image : image + images] = out.view(outputs, images, size).transpose(0, 1)
        return y.view(batch, high, wide, outputs).permute(0, 3, 1, 2) if inner else y.view(batch, outputs, high, wide)

    def _source(self, grid: Tensor, plan: _Plan, image: int, images: int, inner: bool) -> Tensor:
        """Return the channels of some images one after the other, with what lies around them in memory."""
        channels, high, wide = grid.shape[1:]
        size = high * wide
        if inner:
            flat = grid.permute(0, 2, 3, 1).reshape(-1, channels)
            return transposed(_window(flat, image * size - plan.before, plan.pitch)).view(-1)
        if plan.images == 1:
            length = channels * size
            return _window(grid.view(-1), image * length - plan.before, length + plan.before + plan.after)
        source = grid.new_zeros(channels, plan.pitch)
        inside = source[:, plan.before : plan.before + images * size].view(channels, images, size)
        inside.copy_(grid[image : image + images].view(images, channels, size).transpose(0, 1))
        return source.view(-1)


class _Reader:
    """What the rows of a product's reads read, for one band of positions after the other."""

    def __init__(self, plan: _Plan, edges: Sequence[_Edges], grid: Tensor) -> None:
        self.plan, self.edges, self.grid = plan, edges, grid
        self.workspace = grid.new_empty(max(map(len, plan.offsets)) * plan.images * plan.rows * grid.shape[3])
        self.source, self.view, self.top, self.shape = self.workspace, self.workspace, 0, (0, 0, 0)
        self.bands: dict[tuple[int, tuple[int, int, int]], tuple[Tensor, Tensor, list[Tensor]]] = {}

    def move(self, images: int, top: int, rows: int) -> tuple[int, int]:
        """Go to a band of the source's images; return its first position in an image and its length."""
        wide = self.grid.shape[3]
        first, length = top * wide, images * rows * wide
        start = self.source.storage_offset() + first
        self.view = self.source.as_strided((len(self.source) - first - length + 1, length), (1, 1), start)
        self.top, self.shape = top, (images, rows, wide)
        return first, length

    def __call__(self, number: int) -> Tensor:
        """Return what the rows of one read read in the band, ``[rows, positions]``."""
        taken, band, sides = self._band(number)
        torch.index_select(self.view, 0, self.plan.offsets[number], out=taken)
        for side in sides:
            side.zero_()
        high, (_, rows, _) = self.grid.shape[2], self.shape
        for start, end, shift in self.edges[number][1]:
            above, below = -(self.top + shift), self.top + rows + shift - high
            if above > 0:
                band[start:end, :, :above].zero_()
            if below > 0:
                band[start:end, :, -below:].zero_()
        return taken

    def _band(self, number: int) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return the place of a read's entries, also as images, and of those among them over the left or right edge."""
        key = (number, self.shape)
        if key not in self.bands:
            rows, length = len(self.plan.offsets[number]), self.view.shape[1]
            taken = self.workspace[: rows * length].view(rows, length)
            band = taken.view(rows, *self.shape)
            sides = [
                band[start:end, ..., slice(-shift) if shift < 0 else slice(-shift, None)]
                for start, end, shift in self.edges[number][0]
            ]
            self.bands[key] = taken, band, sides
        return self.bands[key]


def _window(x: Tensor, start: int, length: int) -> Tensor:
    """Return `length` entries of the first dimension from `start` on, zeros where there are none."""
    inside = x[max(0, start) : start + length]
    if len(inside) == length:
        return inside
    out = x.new_zeros(length, *x.shape[1:])
    out[max(0, -start) :][: len(inside)] = inside
    return out


def _even(total: int, most: int) -> int:
    """Return the size of equal parts, of at most `most` if that is possible."""
    return -(-total // -(-total // max(1, most)))


def _layout(x: Tensor) -> torch.memory_format:
    inner = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if inner else torch.contiguous_format
