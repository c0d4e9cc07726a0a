"""Random networks of convolutions and operations that move, tie and mix channels."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _halves_swapped(a: Tensor, b: Tensor) -> Tensor:
    return torch.cat([a.chunk(2, 1)[1], b.chunk(2, 1)[0]], 1)


def _half_activated(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return torch.cat([F.relu(first), second], 1)


def _shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


# operation -> (channels must be a multiple, function, output channels from input channels)
UNARY: dict[str, tuple[int, Callable[[Tensor], Tensor], Callable[[int], int]]] = {
    "relu": (1, F.relu, lambda c: c),
    "cumsum": (1, lambda x: x.cumsum(2), lambda c: c),
    "chunk": (2, lambda x: x.chunk(2, 1)[0], lambda c: c // 2),
    "split": (3, lambda x: x.split(x.size(1) // 3, 1)[1], lambda c: c // 3),
    "half": (2, lambda x: x[:, x.size(1) // 2 :], lambda c: c // 2),
    "glu": (2, lambda x: F.glu(x, 1), lambda c: c // 2),
    "half activated": (2, _half_activated, lambda c: c),
    "shuffle": (2, _shuffled, lambda c: c),
    "first two": (4, lambda x: x[:, :2], lambda c: 2),
    "flip": (1, lambda x: x.flip(1), lambda c: c),
    "roll": (1, lambda x: x.roll(1, 1), lambda c: c),
    "pool": (1, lambda x: x.flatten(2).mean(-1)[:, :, None, None] + x, lambda c: c),
    "layer norm": (1, lambda x: F.layer_norm(x, x.shape[2:]), lambda c: c),
    "pad": (1, lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)), lambda c: c + 2),
}
BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "in place": lambda a, b: a.clone().add_(b),
    "multiply": torch.mul,
    "maximum": torch.maximum,
    "where": lambda a, b: torch.where(b > 0, a, 0.0),
    "matmul": torch.matmul,
    "stack": lambda a, b: torch.stack([a, b], 1).flatten(1, 2),
    "interleave": lambda a, b: torch.stack([a, b], 2).flatten(1, 2),
    "cat": lambda a, b: torch.cat([a, b], 1),
    "swap": _halves_swapped,
}
LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "conv": lambda c, o: nn.Conv2d(c, o, 3, padding=1),
    "wide": lambda c, o: nn.Conv2d(c, 12, 1),
    "norm": lambda c, o: nn.BatchNorm2d(c),
    "depthwise": lambda c, o: nn.Conv2d(c, 2 * c, 3, padding=1, groups=c),
    "grouped": lambda c, o: nn.Conv2d(c, o, 3, padding=1, groups=2 if c % 2 == 0 else 1),
}


class RandomModel(nn.Module):
    """A graph of up to nine random operations on images of 3 x 4 x 4; equal seeds give equal models."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = random.Random(seed)
        torch.manual_seed(seed)
        self.layers = nn.ModuleDict()
        self.steps: list[tuple[str, tuple[int, ...]]] = []
        widths = [3]
        for number in range(rng.randint(3, 9)):
            name = rng.choice([*LAYERS, *LAYERS, *UNARY, *BINARY])
            source = rng.randrange(len(widths)) if rng.random() < 0.4 else len(widths) - 1
            width = widths[source]
            if name in LAYERS:
                layer = LAYERS[name](width, rng.choice([4, 6, 8]))
                self.layers[str(number)] = layer
                self.steps.append((str(number), (source,)))
                widths.append(width if name == "norm" else layer.out_channels)
            elif name in UNARY and width % UNARY[name][0] == 0:
                self.steps.append((name, (source,)))
                widths.append(UNARY[name][2](width))
            elif name in BINARY and not (name == "swap" and width % 2):
                other = rng.choice([i for i, w in enumerate(widths) if w == width])
                self.steps.append((name, (source, other)))
                widths.append(2 * width if name in ("stack", "interleave", "cat") else width)
        self.head = nn.Linear(widths[-1] * 16, 3) if rng.random() < 0.3 else nn.Conv2d(widths[-1], 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for name, sources in self.steps:
            inputs = [values[i] for i in sources]
            function = self.layers[name] if name in self.layers else UNARY[name][1] if name in UNARY else BINARY[name]
            values.append(function(*inputs))
        return self.head(values[-1].flatten(1) if isinstance(self.head, nn.Linear) else values[-1])
