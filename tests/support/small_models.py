"""Hand-made networks, one pattern of coupled channels each, that tracing is tested on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
import torch.nn.utils.parametrizations
from torch import Tensor, nn


class Fn(nn.Module):
    """A module made of named layers and a function of (itself, inputs)."""

    def __init__(self, forward: Callable[..., Any], **members: Any) -> None:
        super().__init__()
        for name, member in members.items():
            setattr(self, name, member)
        self._function = forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self, *args, **kwargs)


class LambdaLayer(nn.Module):
    """The shortcut of akamaster's CIFAR ResNets."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Swish(nn.Module):
    """A user's activation: no parameters, moves nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class StandardisedConv(nn.Conv2d):
    """A convolution whose weight is computed from its parameter."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding)


class Attention(nn.Module):
    """Self-attention and a feed-forward layer, both residual; the width of all heads may be hard-coded."""

    def __init__(self, dim: int = 8, heads: int = 2, inner: int = 12, width: int | None = None) -> None:
        super().__init__()
        self.width = width
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, inner), nn.Linear(inner, dim)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2)) * q.size(-1) ** -0.5
        x = x + self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(n, length, self.width or -1))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Biased(nn.Module):
    """Self-attention with a bias for every head, which the first layer makes of zeros and hands on."""

    def __init__(self, dim: int = 8, heads: int = 4) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.num_heads = heads

    def forward(self, x: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, k, v = (layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        scores = q @ k.transpose(-2, -1)
        if bias is None:
            bias = torch.zeros(1, self.num_heads, *scores.shape[-2:], dtype=x.dtype)
        return x + self.o(((scores + bias).softmax(-1) @ v).transpose(1, 2).flatten(2)), bias


class HandedOn(nn.Module):
    """Layers of attention that share the bias of the first one."""

    def __init__(self, copied: bool) -> None:
        super().__init__()
        self.layers, self.head = nn.ModuleList(Biased() for _ in range(3)), nn.Linear(8, 2)
        self.copied = copied

    def forward(self, x: Tensor) -> Tensor:
        bias = None
        for layer in self.layers:
            x, bias = layer(x, bias.clone()[:, :, :5] if self.copied and bias is not None else bias)
        return self.head(x)


class C2f(nn.Module):
    """YOLO's block: half of a layer's channels go through layers, and all that comes of them is put together."""

    def __init__(self, c: int = 4, sizes: str = "numbers") -> None:
        super().__init__()
        self.c, self.parts, self.sizes = c, [c, c] if sizes == "list" else (c, c), sizes
        self.cv1, self.cv2 = nn.Conv2d(8, 2 * c, 1), nn.Conv2d(4 * c, 6, 1)
        self.m = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv1(x)
        split = {"chunk": lambda: y.chunk(2, 1), "numbers": lambda: y.split((self.c, self.c), 1)}
        parts = list(split.get(self.sizes, lambda: y.split(self.parts, 1))())
        parts.extend(layer(parts[-1]).relu() for layer in self.m)
        return self.cv2(torch.cat(parts, 1))


class Parted(nn.Module):
    """Unequal parts of the channels, of which one stays as it is, in sizes of any name."""

    def __init__(self, whole: int, parts: tuple[int, ...]) -> None:
        super().__init__()
        self.whole, self.cuts = whole, parts
        self.a, self.b = nn.Conv2d(3, whole, 1), nn.Conv2d(parts[1], parts[1], 3, padding=1)
        self.c = nn.Conv2d(whole, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y, z = self.a(x).split(self.cuts, 1)
        return self.c(torch.cat([y, self.b(z)], 1))


class Pixels(nn.Module):
    """A linear layer that makes the first pixels of a generator."""

    def __init__(self, base: int = 5, hard: bool = False) -> None:
        super().__init__()
        self.base, self.hard = base, hard
        self.first, self.norm = nn.Linear(6, 5 * 4 * 4), nn.BatchNorm2d(5)
        self.second = nn.ConvTranspose2d(5, 4, 4, 2, 1)
        self.last = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x).view(-1, 5 if self.hard else self.base, 4, 4)
        return self.last(self.second(self.norm(h).relu()).relu())


class _Mixing(nn.Module):
    """Computes a weight whose rows depend on one another."""

    def forward(self, weight: Tensor) -> Tensor:
        return torch.linalg.qr(weight)[0]


def _mixed(layer: nn.Linear) -> nn.Module:
    torch.nn.utils.parametrize.register_parametrization(layer, "weight", _Mixing())
    return layer


class Experts(nn.Module):
    """A mixture of experts whose weights are one tensor: one expert after the other, or all in one product."""

    def __init__(self, grouped: bool, dim: int = 8, inner: int = 12, experts: int = 3) -> None:
        super().__init__()
        self.grouped = grouped
        self.router = nn.Linear(dim, experts)
        self.up = nn.Parameter(0.3 * torch.randn(experts, 2 * inner, dim))
        self.down = nn.Parameter(0.3 * torch.randn(experts, dim, inner))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(0, -2)
        weights, chosen = self.router(rows).softmax(-1).topk(2, -1)
        out = torch.zeros_like(rows)
        if self.grouped:
            order = chosen.flatten().argsort(stable=True)
            ends = torch.bincount(chosen.flatten(), minlength=len(self.up)).cumsum(0).to(torch.int32)
            first, second = F.grouped_mm(rows[order // 2], self.up.transpose(1, 2), offs=ends).chunk(2, -1)
            made = F.grouped_mm(first.relu() * second, self.down.transpose(1, 2), offs=ends)
            out.index_add_(0, order // 2, made * weights.flatten()[order, None])
        else:
            for number in range(len(self.up)):
                place, which = torch.where(chosen == number)
                first, second = F.linear(rows[place], self.up[number]).chunk(2, -1)
                made = F.linear(first.relu() * second, self.down[number])
                out.index_add_(0, place, made * weights[place, which, None])
        return x + out.view(x.shape)


class Messages(nn.Module):
    """A layer of a graph network: what neighbours send is added up, or is the greatest, at every node."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.a, self.b, self.c = how, nn.Linear(6, 8), nn.Linear(8, 10), nn.Linear(10, 2)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        sent = self.b(self.a(x).relu())[edges[0]]
        out, index = torch.zeros(len(x), sent.size(1), dtype=x.dtype), edges[1]
        if self.how == "scatter_add":
            out = out.scatter_add(0, index[:, None].expand_as(sent), sent)
        elif self.how == "scatter_reduce":
            out = out.scatter_reduce(0, index[:, None].expand_as(sent), sent, "amax", include_self=False)
        elif self.how == "index_put":
            out = out.index_put((index,), sent, accumulate=True)
        else:
            out = out.index_add(0, index, sent)
        return self.c(out.relu())


def conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def cbr(i: int, o: int, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(i, o, bias=False, **options), nn.BatchNorm2d(o), nn.ReLU())


def image(channels: int = 3, size: int = 8, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(0))


def tokens(dim: int = 8, length: int = 5) -> Tensor:
    return torch.randn(2, length, dim, generator=torch.Generator().manual_seed(0))


@dataclass
class Case:
    """A model, its example and what tracing must say.

    Parameters
    ----------
    units
        (name, channels, tied, groups) in order.
    fixed
        Layer -> words that a reason of it holds, checked for the layers that are named.
    rescued
        Whether verification may have fixed a unit; elsewhere tracing alone must be right.
    """

    build: Callable[[], nn.Module]
    example: Any
    units: list[tuple[str, int, int, int]]
    fixed: dict[str, str] = field(default_factory=dict)
    rescued: bool = False
    dtype: torch.dtype = torch.float64


def _shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def _pad(planes: int) -> LambdaLayer:
    return LambdaLayer(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4), "constant", 0))


def _dense() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x = torch.cat([x, m.a(F.relu(m.bn_a(x)))], 1)
        x = torch.cat([x, m.b(F.relu(m.bn_b(x)))], 1)
        return m.head(x)

    return Fn(
        forward,
        stem=conv(3, 4),
        bn_a=nn.BatchNorm2d(4),
        a=conv(4, 6),
        bn_b=nn.BatchNorm2d(10),
        b=conv(10, 6),
        head=conv(16, 2),
    )


def _gate() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        u, v = m.a(x).chunk(2, 1)
        return m.b(u * v)

    return Fn(forward, a=conv(3, 8), b=conv(4, 2))


def _tied() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        return F.linear(F.relu(m.b(F.relu(m.a(x)))), m.a.weight.t())

    return Fn(forward, a=nn.Linear(6, 8), b=nn.Linear(8, 8))


def _shared_parameter() -> nn.Module:
    a, b = nn.Linear(8, 8), nn.Linear(8, 8)
    b.weight = a.weight
    return nn.Sequential(nn.Linear(4, 8), a, nn.ReLU(), b, nn.Linear(8, 3))


def _frozen() -> nn.Module:
    return nn.Sequential(cbr(3, 8), cbr(8, 8), conv(8, 2)).requires_grad_(False)


def _aux() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Any:
        x = F.relu(m.a(x))
        return (m.b(x), m.aux(x)) if m.training else m.b(x)

    return Fn(forward, a=conv(3, 8), b=conv(8, 2), aux=conv(8, 2))


class _Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = conv(3, 8), conv(8, 8), conv(8, 2)
        self.gamma = nn.Parameter(torch.full((8, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.head(x + self.gamma * self.b(x))


class _Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.up, self.head = nn.Linear(6, 8), nn.Linear(8, 10), nn.Linear(10, 3)
        self.positions = nn.Parameter(torch.zeros(1, 5, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.up(self.embed(x) + self.positions)).mean(1))


class _Normalised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))
        self.a, self.b = conv(3, 8), conv(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a((x - self.mean) / self.std)))


class _Average(nn.Module):
    """Writes to one of its buffers, puts another in the place of the second and remembers an activation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = conv(3, 8), nn.GroupNorm(1, 8), conv(8, 2)
        self.register_buffer("mean", torch.zeros(8, 1, 1))
        self.register_buffer("count", torch.zeros(()))
        self.seen: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.seen = self.a(x)
        self.mean.data.mul_(0.9).add_(self.seen.detach().mean((0, 2, 3))[:, None, None])
        self.count = self.count + 1
        return self.b(self.norm(self.seen) - self.mean)


class _Holding(nn.Module):
    """Calls its layers by a function that no copy of it can change."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.head = (nn.Linear(6, 6) for _ in range(4))
        self.inner = lambda x: self.c(F.relu(self.b(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(self.a(x)))


class _Flipped(nn.Module):
    """Calls itself on the mirrored image."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = conv(3, 8), nn.GroupNorm(1, 8), conv(8, 2)

    def forward(self, x: Tensor, again: bool = True) -> Tensor:
        if again:
            return self(x, False) + self(x.flip(-1), False).flip(-1)
        return self.b(self.norm(self.a(x)))


class _BufferScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8), conv(8, 2)
        self.register_buffer("scale", torch.ones(1, 8, 1, 1))
        self.constant = torch.ones(1, 8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) * self.scale)


def _squeeze_excite() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.a(x)
        return m.b(x * torch.sigmoid(m.up(F.relu(m.down(x.mean((2, 3), keepdim=True))))))

    return Fn(forward, a=conv(3, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), b=conv(8, 2))


def _spatial_attention() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.a(x))
        return m.b(x * torch.sigmoid(m.map(x)))

    return Fn(forward, a=conv(3, 8), map=conv(8, 1), b=conv(8, 2))


def _text() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(F.relu(m.up(m.embed(x).mean(1))))

    return Fn(forward, embed=nn.Embedding(20, 8), up=nn.Linear(8, 12), head=nn.Linear(12, 3))


def _option_a(inline: bool) -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = F.relu(m.stem(x))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4)) if inline else m.shortcut(x)
        return m.head(F.relu(m.b(F.relu(m.a(x))) + short).mean((2, 3)))

    members = {} if inline else {"shortcut": _pad(16)}
    return Fn(forward, stem=conv(3, 8), a=conv(8, 6, stride=2), b=conv(6, 16), head=nn.Linear(16, 3), **members)


def _fn(forward: Callable[..., Any], **members: Any) -> Callable[[], nn.Module]:
    """Return a factory that builds the members anew; they are given as functions of nothing."""
    return lambda: Fn(forward, **{name: make() for name, make in members.items()})


def L(cls: Callable[..., nn.Module], *args: Any, **options: Any) -> Callable[[], nn.Module]:  # noqa: N802
    return lambda: cls(*args, **options)


IMG = image()
CASES: dict[str, Case] = {
    "chain": Case(
        lambda: nn.Sequential(cbr(3, 8), cbr(8, 6), conv(6, 2)),
        IMG,
        [("0.0", 8, 1, 1), ("1.0", 6, 1, 1)],
        {"2": "output"},
    ),
    "frozen": Case(_frozen, IMG, [("0.0", 8, 1, 1), ("1.0", 8, 1, 1)], {"2": "output"}),
    "unfold": Case(
        lambda: Fn(lambda m, x: m.b(F.unfold(m.a(x), 3).transpose(1, 2)).mean(1), a=conv(3, 8), b=nn.Linear(72, 4)),
        IMG,
        [("a", 8, 1, 1)],
        {"b": "output"},
    ),
    "identity residual": Case(
        _fn(lambda m, x: m.head((y := m.a(x)) + m.b(y)), a=L(cbr, 3, 8), b=L(cbr, 8, 8), head=L(conv, 8, 2)),
        IMG,
        [("a.0", 8, 1, 1)],
    ),
    "projection": Case(
        _fn(
            lambda m, x: m.head(m.p(y := m.a(x)) + m.b(y)),
            a=L(cbr, 3, 8),
            b=L(cbr, 8, 6),
            p=L(conv, 8, 6, 1),
            head=L(conv, 6, 2),
        ),
        IMG,
        [("a.0", 8, 1, 1), ("p", 6, 1, 1)],
    ),
    "option A in a leaf": Case(
        lambda: _option_a(False), IMG, [("stem", 8, 1, 1), ("a", 6, 1, 1), ("b", 16, 1, 1)], {"head": "output"}
    ),
    "option A inline": Case(lambda: _option_a(True), IMG, [("stem", 8, 1, 1), ("a", 6, 1, 1)], {"b": ""}),
    "dense blocks": Case(_dense, IMG, [("stem", 4, 1, 1), ("a", 6, 1, 1), ("b", 6, 1, 1)]),
    "depthwise": Case(lambda: nn.Sequential(cbr(3, 8), cbr(8, 8, groups=8), conv(8, 2, 1)), IMG, [("0.0", 8, 1, 1)]),
    "depthwise with multiplier": Case(
        lambda: nn.Sequential(cbr(3, 4), cbr(4, 12, groups=4), conv(12, 2, 1)), IMG, [("0.0", 4, 1, 1)]
    ),
    "grouped": Case(
        lambda: nn.Sequential(cbr(3, 8), cbr(8, 12, groups=2), conv(12, 2)),
        IMG,
        [("0.0", 8, 1, 2), ("1.0", 12, 1, 2)],
    ),
    "grouped twice": Case(
        lambda: nn.Sequential(cbr(3, 12), cbr(12, 24, groups=2), cbr(24, 12, groups=3), conv(12, 2)),
        IMG,
        [("0.0", 12, 1, 2), ("1.0", 24, 1, 6), ("2.0", 12, 1, 3)],
    ),
    "grouped after concat": Case(
        _fn(
            lambda m, x: m.head(m.g(torch.cat([m.a(x), m.b(x)], 1))),
            a=L(cbr, 3, 4),
            b=L(cbr, 3, 4),
            g=L(conv, 8, 4, groups=2),
            head=L(conv, 4, 2),
        ),
        IMG,
        [("a.0", 4, 1, 1), ("g", 4, 1, 2)],
    ),
    "squeeze-excite": Case(_squeeze_excite, IMG, [("a", 8, 1, 1), ("down", 4, 1, 1)]),
    "flatten before linear": Case(
        lambda: nn.Sequential(
            cbr(3, 8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10), nn.ReLU(), nn.Linear(10, 3)
        ),
        IMG,
        [("0.0", 8, 1, 1), ("3", 10, 1, 1)],
    ),
    "view before linear": Case(
        _fn(lambda m, x: m.b(m.a(x).view(x.size(0), -1)), a=L(conv, 3, 8), b=L(nn.Linear, 512, 3)),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "module used twice": Case(
        _fn(lambda m, x: m.head(m.b(m.b(m.a(x)))), a=L(cbr, 3, 8), b=L(cbr, 8, 8), head=L(conv, 8, 2)),
        IMG,
        [("a.0", 8, 1, 1)],
    ),
    "activation of the user used twice": Case(
        _fn(
            lambda m, x: m.head(m.act(m.b(y := m.act(m.a(x)))) + m.act(m.c(y))),
            a=L(conv, 3, 8),
            b=L(conv, 8, 6),
            c=L(conv, 8, 6),
            act=L(Swish),
            head=L(conv, 6, 2),
        ),
        IMG,
        [("a", 8, 1, 1), ("b", 6, 1, 1)],
    ),
    "activation used twice on one tensor": Case(
        _fn(
            lambda m, x: m.head(m.b(m.act(y := m.a(x))) + m.act(z := m.c(x)) + m.d(y) + z),
            a=L(conv, 3, 8),
            b=L(conv, 8, 6),
            c=L(conv, 3, 6),
            d=L(conv, 8, 6),
            act=L(Swish),
            head=L(conv, 6, 2),
        ),
        IMG,
        [("a", 8, 1, 1), ("b", 6, 1, 1)],
    ),
    "padding leaf used twice": Case(
        _fn(
            lambda m, x: m.head(m.pad(m.a(x)) + m.pad(m.b(x)) + m.c(x)),
            a=L(conv, 3, 8),
            b=L(conv, 3, 8),
            c=L(conv, 3, 16, stride=2),
            pad=lambda: _pad(16),
            head=L(conv, 16, 2),
        ),
        IMG,
        [("a", 8, 1, 1), ("c", 16, 1, 1)],
    ),
    "tied weights": Case(_tied, torch.randn(2, 6), [("a", 8, 1, 1)]),
    "shared parameter": Case(_shared_parameter, torch.randn(2, 4), [("0", 8, 1, 1)]),
    "residual with the input": Case(
        _fn(lambda m, x: m.head(x + m.b(m.a(x))), a=L(conv, 3, 8), b=L(conv, 8, 3), head=L(conv, 3, 2)),
        IMG,
        [("a", 8, 1, 1)],
        {"b": "input"},
    ),
    "gate": Case(_gate, IMG, [("a", 8, 2, 1)]),
    "glu": Case(_fn(lambda m, x: m.b(F.glu(m.a(x), 1)), a=L(conv, 3, 8), b=L(conv, 4, 2)), IMG, [("a", 8, 2, 1)]),
    "chunk to two readers": Case(
        _fn(
            lambda m, x: m.b((t := m.a(x).chunk(2, 1))[0]) + m.c(F.relu(t[1])),
            a=L(conv, 3, 8),
            b=L(conv, 4, 2),
            c=L(conv, 4, 2),
        ),
        IMG,
        [("a", 8, 2, 1)],
    ),
    "chunk and concat": Case(
        _fn(
            lambda m, x: m.b(torch.cat([(t := m.a(x).chunk(2, 1))[0], F.relu(t[1])], 1)),
            a=L(conv, 3, 8),
            b=L(conv, 8, 2),
        ),
        IMG,
        [("a", 8, 1, 2)],
    ),
    "channel shuffle": Case(
        _fn(lambda m, x: m.b(_shuffle(m.a(x), 2)), a=L(conv, 3, 8), b=L(conv, 8, 2)), IMG, [("a", 8, 2, 1)]
    ),
    "channel shuffle before groups": Case(
        _fn(
            lambda m, x: m.head(m.b(_shuffle(m.a(x), 2))),
            a=L(conv, 3, 8),
            b=L(conv, 8, 8, groups=2),
            head=L(conv, 8, 2),
        ),
        IMG,
        [("a", 8, 4, 1), ("b", 8, 1, 2)],
    ),
    "channel shuffle module": Case(
        lambda: nn.Sequential(conv(3, 8), nn.ChannelShuffle(2), conv(8, 4), conv(4, 2)),
        IMG,
        [("0", 8, 2, 1), ("2", 4, 1, 1)],
    ),
    "pixel shuffle": Case(
        lambda: nn.Sequential(conv(3, 16), nn.PixelShuffle(2), conv(4, 6), conv(6, 2)),
        IMG,
        [("0", 16, 4, 1), ("2", 6, 1, 1)],
    ),
    "one pixel, channels last": Case(
        _fn(
            lambda m, x: m.b(F.adaptive_avg_pool2d(m.a(x.to(memory_format=torch.channels_last)), 1)),
            a=L(conv, 3, 8),
            b=L(conv, 8, 2),
        ),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "halves by slices": Case(
        _fn(
            lambda m, x: m.b((y := m.a(x))[:, : y.size(1) // 2] * y[:, y.size(1) // 2 :].sigmoid()),
            a=L(conv, 3, 8),
            b=L(conv, 4, 2),
        ),
        IMG,
        [("a", 8, 2, 1)],
    ),
    "rolled channels": Case(
        _fn(lambda m, x: m.b(m.a(x).roll(1, 1)), a=L(conv, 3, 8), b=L(conv, 8, 2)), IMG, [], {"a": "roll"}
    ),
    "first three channels": Case(
        _fn(lambda m, x: m.b(m.a(x)[:, :3]), a=L(conv, 3, 8), b=L(conv, 3, 2)),
        IMG,
        [("a#2", 5, 1, 1)],
        {"a": ""},
        rescued=True,
    ),
    "first half, hard-coded": Case(
        _fn(lambda m, x: m.b(m.a(x)[:, :4]), a=L(conv, 3, 8), b=L(conv, 4, 2)), IMG, [], {"a": "raises"}, rescued=True
    ),
    "hard-coded view": Case(
        _fn(lambda m, x: m.b(m.a(x).view(x.size(0), 8 * 64)), a=L(conv, 3, 8), b=L(nn.Linear, 512, 3)),
        IMG,
        [],
        {"a": "raises"},
        rescued=True,
    ),
    "layer norm": Case(
        lambda: nn.Sequential(nn.Linear(8, 12), nn.LayerNorm(12), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3)),
        tokens(),
        [("0", 12, 1, 1), ("2", 10, 1, 1)],
    ),
    "group norm": Case(
        lambda: nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8), conv(8, 6), conv(6, 2)),
        IMG,
        [("0", 8, 1, 2), ("2", 6, 1, 1)],
    ),
    "instance norm": Case(lambda: nn.Sequential(conv(3, 8), nn.InstanceNorm2d(8), conv(8, 2)), IMG, [("0", 8, 1, 1)]),
    "attention": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), Attention(), nn.Linear(8, 3)),
        tokens(6),
        [("0", 8, 1, 1), ("1.qkv", 24, 12, 1), ("1.up", 12, 1, 1)],
    ),
    "attention of hard-coded width": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), Attention(width=8), nn.Linear(8, 3)),
        tokens(6),
        [("0", 8, 1, 1), ("1.up", 12, 1, 1)],
        {"1.qkv": "raises"},
        rescued=True,
    ),
    **{
        f"c2f by {sizes}": Case(
            lambda sizes=sizes: nn.Sequential(conv(3, 8, 1), C2f(4, sizes), nn.ReLU(), conv(6, 2, 1)),
            IMG,
            [("0", 8, 1, 1), ("1.cv1", 8, 2, 1), ("1.m.0", 4, 1, 1), ("1.m.1", 4, 1, 1), ("1.cv2", 6, 1, 1)],
        )
        for sizes in ("chunk", "numbers", "list", "tuple")
    },
    "unequal parts": Case(lambda: Parted(8, (5, 3)), IMG, [("a", 5, 1, 1), ("a#2", 3, 1, 1), ("b", 3, 1, 1)], {}),
    "pixels of a linear layer": Case(lambda: Pixels(), torch.randn(2, 6), [("first", 80, 16, 1), ("second", 4, 1, 1)]),
    "pixels of a linear layer, hard-coded": Case(
        lambda: Pixels(hard=True), torch.randn(2, 6), [("second", 4, 1, 1)], {"first": "raises"}, rescued=True
    ),
    "experts one by one": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), Experts(False), nn.Linear(8, 2)),
        tokens(6),
        [("0", 8, 1, 1), ("1.up", 24, 2, 1)],
        {"1.router": "chosen among"},
    ),
    "experts in one product": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), Experts(True), nn.Linear(8, 2)),
        tokens(6),
        [("0", 8, 1, 4), ("1.up", 24, 2, 4)],
        {"1.router": "chosen among"},
        dtype=torch.float32,
    ),
    **{
        f"messages by {how}": Case(
            lambda how=how: Messages(how),
            (torch.randn(5, 6), torch.tensor([[0, 1, 2, 3, 4, 0, 2], [1, 0, 3, 2, 0, 4, 1]])),
            [("a", 8, 1, 1), ("b", 10, 1, 1)],
        )
        for how in ("index_add", "index_put", "scatter_add", "scatter_reduce")
    },
    "an empty cache": Case(
        _fn(
            lambda m, x: m.b(torch.cat([torch.tensor([], dtype=x.dtype), m.a(x)], -2)),
            a=L(nn.Linear, 6, 8),
            b=L(nn.Linear, 8, 2),
        ),
        tokens(6),
        [("a", 8, 1, 1)],
    ),
    "bias handed on": Case(lambda: HandedOn(False), tokens(), [("layers.0.q", 8, 2, 1)]),
    "copies of a bias handed on": Case(lambda: HandedOn(True), tokens(), [("layers.0.q", 8, 2, 1)]),
    "transformer layer of torch": Case(
        lambda: nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), nn.Linear(8, 3)),
        tokens(),
        [("0.self_attn.in_proj_weight", 24, 12, 1), ("0.linear1", 12, 1, 1)],
    ),
    "conv1d": Case(
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8), nn.ReLU(), nn.Conv1d(8, 4, 3), nn.Flatten(), nn.Linear(16, 2)
        ),
        torch.randn(2, 3, 8),
        [("0", 8, 1, 1), ("3", 4, 1, 1)],
    ),
    "conv3d": Case(
        lambda: nn.Sequential(nn.Conv3d(3, 8, 3), nn.BatchNorm3d(8), nn.MaxPool3d(2), nn.Conv3d(8, 4, 1)),
        torch.randn(2, 3, 4, 6, 6),
        [("0", 8, 1, 1)],
    ),
    "transposed": Case(
        lambda: nn.Sequential(conv(3, 8), nn.ConvTranspose2d(8, 6, 2, 2), nn.ReLU(), conv(6, 2)),
        IMG,
        [("0", 8, 1, 1), ("1", 6, 1, 1)],
    ),
    "transposed depthwise": Case(
        lambda: nn.Sequential(conv(3, 8), nn.ConvTranspose2d(8, 8, 2, 2, groups=8), conv(8, 2)),
        IMG,
        [("0", 8, 1, 1)],
    ),
    "transposed grouped": Case(
        lambda: nn.Sequential(conv(3, 8), nn.ConvTranspose2d(8, 8, 2, 2, groups=2), conv(8, 6), conv(6, 2)),
        IMG,
        [("2", 6, 1, 1)],
        {"0": "cannot follow"},
    ),
    "spatial attention": Case(_spatial_attention, IMG, [("a", 8, 1, 1)], {"map": "broadcast"}),
    "spatial attention over channels": Case(
        _fn(
            lambda m, x: m.b((y := m.a(x)) * m.map(torch.cat([y.mean(1, True), y.amax(1, True)], 1)).sigmoid()),
            a=L(conv, 3, 8),
            map=L(conv, 2, 1),
            b=L(conv, 8, 2),
        ),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "prelu": Case(
        lambda: nn.Sequential(conv(3, 8), nn.PReLU(8), conv(8, 6), nn.PReLU(), conv(6, 2)),
        IMG,
        [("0", 8, 1, 1), ("2", 6, 1, 1)],
    ),
    "layer scale": Case(_Scaled, IMG, [("a", 8, 1, 1)]),
    "positional embedding": Case(_Positions, tokens(6), [("embed", 8, 1, 1), ("up", 10, 1, 1)]),
    "input normalisation": Case(_Normalised, IMG, [("a", 8, 1, 1)]),
    "buffer scale": Case(_BufferScale, IMG, [("a", 8, 1, 1)]),
    "constant scale": Case(
        _fn(lambda m, x: m.b(m.a(x) * torch.ones(8, 1, 1)), a=L(conv, 3, 8), b=L(conv, 8, 2)),
        IMG,
        [],
        {"a": ""},
        rescued=True,
    ),
    "in-place relu after linear": Case(
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)), tokens(6), [("0", 8, 1, 1)]
    ),
    "in-place sums": Case(
        _fn(
            lambda m, x: m.head(F.relu_(torch.zeros(2, 6, 8, 8).add_(m.a(x)).add_(m.b(x)))),
            a=L(conv, 3, 6),
            b=L(conv, 3, 6),
            head=L(conv, 6, 2),
        ),
        IMG,
        [],
        {"a": ""},
        rescued=True,
    ),
    "text": Case(_text, torch.randint(0, 20, (2, 7)), [("embed", 8, 1, 1), ("up", 12, 1, 1)]),
    "tuple output": Case(
        _fn(lambda m, x: ((y := m.a(x)), m.b(y)), a=L(conv, 3, 8), b=L(conv, 8, 2)), IMG, [], {"a": "output"}
    ),
    "dict output": Case(
        _fn(lambda m, x: {"out": m.b(y := m.a(x)), "aux": [m.c(y)]}, a=L(conv, 3, 8), b=L(conv, 8, 2), c=L(conv, 8, 2)),
        IMG,
        [("a", 8, 1, 1)],
        {"b": "output", "c": "output"},
    ),
    "object output": Case(
        _fn(lambda m, x: SimpleNamespace(logits=m.b(m.a(x)), loss=None), a=L(conv, 3, 8), b=L(conv, 8, 2)),
        IMG,
        [("a", 8, 1, 1)],
        {"b": "output"},
    ),
    "integer output": Case(
        _fn(lambda m, x: m.b(m.a(x)).mean((2, 3)).argmax(1), a=L(conv, 3, 8), b=L(conv, 8, 4)),
        IMG,
        [("a", 8, 1, 1)],
        {"b": "reduced over channels"},
    ),
    "integer output beside another": Case(
        _fn(lambda m, x: m.b(m.a(x)).mean((2, 3)).max(1), a=L(conv, 3, 8), b=L(conv, 8, 4)),
        IMG,
        [("a", 8, 1, 1)],
        {"b": "reduced over channels by max"},
    ),
    "output with a mask": Case(
        _fn(
            lambda m, x: m.b(m.a(x)).masked_fill(torch.tensor([[True], [False]]), -torch.inf),
            a=L(conv, 3, 8),
            b=L(conv, 8, 2, 1),
        ),
        image(size=2),
        [("a", 8, 1, 1)],
    ),
    "complex output": Case(
        _fn(lambda m, x: torch.fft.fft(m.b((y := m.a(x)) - y.sum(1, True) / 8)), a=L(conv, 3, 8), b=L(conv, 8, 2)),
        IMG,
        [],
        {"a": "differs"},
        rescued=True,
    ),
    "moving average": Case(_Average, IMG, [("a", 8, 1, 1)]),
    "calls itself": Case(_Flipped, IMG, [("a", 8, 1, 1)]),
    "pooled over channels": Case(
        _fn(lambda m, x: m.b(F.max_pool2d(m.a(x).flatten(2), 2)), a=L(conv, 3, 8), b=L(nn.Conv1d, 4, 2, 1)),
        IMG,
        [],
        {"a": "max_pool2d"},
    ),
    "several inputs": Case(
        _fn(lambda m, x, y: m.c(m.a(x) + m.b(y)), a=L(conv, 3, 8), b=L(conv, 2, 8), c=L(conv, 8, 2)),
        (IMG, image(2)),
        [("a", 8, 1, 1)],
    ),
    "keywords": Case(
        _fn(
            lambda m, x, *, scale, mask=None: m.c(m.a(x) * scale * mask),
            a=L(conv, 3, 8),
            c=L(conv, 8, 2),
        ),
        {"x": IMG, "scale": 2.0, "mask": torch.ones(2, 1, 8, 8)},
        [("a", 8, 1, 1)],
    ),
    "auxiliary head": Case(_aux, IMG, [], {"aux": "did not run", "a": "in training"}, rescued=True),
    "recurrent auxiliary head": Case(
        _fn(
            lambda m, x: (m.b(y := m.a(x)), m.aux(y)[0]) if m.training else m.b(m.a(x)),
            a=L(nn.Linear, 6, 8),
            b=L(nn.Linear, 8, 2),
            aux=L(nn.GRU, 8, 4),
        ),
        tokens(6),
        [],
        {"aux": "did not run", "a": "in training"},
        rescued=True,
    ),
    "function that holds its module": Case(
        lambda: _Holding(), tokens(6), [], {"a": "still runs b.weight", "b": "still runs"}, rescued=True
    ),
    "norm without affine": Case(
        lambda: nn.Sequential(conv(3, 8), nn.BatchNorm2d(8, affine=False), conv(8, 2)), IMG, [("0", 8, 1, 1)]
    ),
    "norm without statistics": Case(
        lambda: nn.Sequential(conv(3, 8), nn.BatchNorm2d(8, track_running_stats=False), conv(8, 2)),
        IMG,
        [("0", 8, 1, 1)],
    ),
    "standardised weights": Case(
        lambda: nn.Sequential(conv(3, 8), StandardisedConv(8, 8, 3), conv(8, 6), conv(6, 2)),
        IMG,
        [("0", 8, 1, 1), ("1", 8, 1, 1), ("2", 6, 1, 1)],
    ),
    "nothing to prune": Case(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), IMG, [], {"1": "output"}),
    "no parameters": Case(lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), IMG, []),
    "views of a narrow weight": Case(
        _fn(
            lambda m, x: m.c(
                m.a(x) * F.linear(x, m.b.weight.reshape(1, -1)) + F.linear(x, m.b.weight[:, :6].view(6, 1).t())
            ),
            a=L(nn.Linear, 6, 8),
            b=L(nn.Linear, 6, 1),
            c=L(nn.Linear, 8, 2),
        ),
        tokens(6),
        [("a", 8, 1, 1)],
    ),
    "halves of a weight": Case(
        _fn(
            lambda m, x: m.b(F.linear(x, (w := m.a.weight.chunk(2))[0]) * F.linear(x, w[1])),
            a=L(nn.Linear, 6, 8, bias=False),
            b=L(nn.Linear, 4, 2),
        ),
        tokens(6),
        [("a", 8, 2, 1)],
    ),
    "halves of a weight, one used twice": Case(
        _fn(
            lambda m, x: m.b(F.linear(x.relu(), (w := m.a.weight.chunk(2))[0]) * F.linear(x, w[0]) * F.linear(x, w[1])),
            a=L(nn.Linear, 6, 8, bias=False),
            b=L(nn.Linear, 4, 2),
        ),
        tokens(6),
        [("a", 8, 2, 1)],
    ),
    "half of a weight, hard-coded": Case(
        _fn(
            lambda m, x: m.b(F.linear(m.a(x), m.c.weight[:, :4])),
            a=L(nn.Linear, 6, 4),
            b=L(nn.Linear, 8, 2),
            c=L(nn.Linear, 8, 8),
        ),
        tokens(6),
        [("c", 8, 1, 1)],
        {"a": ""},
        rescued=True,
    ),
    "straight-through mask": Case(
        _fn(lambda m, x: m.b((y := m.a(x)) * (y > 0).float()), a=L(conv, 3, 8), b=L(conv, 8, 2)),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "mask of another branch": Case(
        _fn(
            lambda m, x: m.c(m.a(x).flatten(1) * (m.b(x) > 0).flatten(1)),
            a=L(conv, 3, 8),
            b=L(conv, 3, 8),
            c=L(nn.Linear, 512, 2),
        ),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "zeros like": Case(
        _fn(lambda m, x: m.b(torch.cat([y := m.a(x), torch.zeros_like(y)], 1)), a=L(conv, 3, 8), b=L(conv, 16, 2)),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "reversed channels": Case(
        _fn(lambda m, x: m.b(torch.cat([(y := m.a(x)).flip(1), y], 1)), a=L(conv, 3, 8), b=L(conv, 16, 2)),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "gru": Case(
        _fn(lambda m, x: m.b(m.a(x)[0]), a=L(nn.GRU, 6, 8, batch_first=True), b=L(nn.Linear, 8, 2)),
        tokens(6),
        [("a.weight_ih_l0", 24, 3, 1)],
    ),
    **{
        f"{name} of {layers} layers": Case(
            _fn(
                lambda m, x: m.b(m.rnn(m.a(x))[0]),
                a=L(nn.Linear, 6, 4),
                rnn=L(cls, 4, 4, layers, batch_first=True, bidirectional=layers == 2),
                b=L(nn.Linear, 4 * layers, 2),
            ),
            tokens(6),
            [("a", 4, 1, 1), ("rnn.weight_ih_l0", 4 * gates, gates, 1)],
        )
        for name, cls, gates in (("rnn", nn.RNN, 1), ("gru", nn.GRU, 3))
        for layers in (1, 2)
    },
    "gru cells": Case(
        _fn(
            lambda m, x: m.b(reduce(lambda state, step: m.cell(step, state), x.unbind(1), None)),
            cell=L(nn.GRUCell, 6, 4),
            b=L(nn.Linear, 4, 2),
        ),
        tokens(6),
        [("cell.weight_ih", 12, 3, 1)],
    ),
    "one step of an lstm": Case(
        _fn(lambda m, x: m.b(m.cell(x)[0]), cell=L(nn.LSTMCell, 6, 4), b=L(nn.Linear, 4, 2)),
        torch.randn(2, 6),
        [("cell.weight_hh", 16, 4, 1)],
    ),
    "embedding of bounded rows": Case(
        _fn(
            lambda m, x: m.b(F.relu(m.a(m.e(x)))),
            e=L(nn.Embedding, 9, 6, max_norm=0.5),
            a=L(nn.Linear, 6, 4),
            b=L(nn.Linear, 4, 2),
        ),
        torch.arange(8).reshape(2, 4),
        [("a", 4, 1, 1)],
        {"e": "embedding_renorm_"},
    ),
    "sampled on a grid": Case(
        _fn(
            lambda m, x: m.b(F.grid_sample(m.a(x), m.grid(x).permute(0, 2, 3, 1), align_corners=False)),
            a=L(conv, 3, 8),
            grid=L(conv, 3, 2),
            b=L(conv, 8, 2),
        ),
        IMG,
        [("a", 8, 1, 1)],
        {"grid": "says where"},
    ),
    "filled": Case(
        _fn(lambda m, x: m.b((y := m.a(x)) * torch.empty_like(y).fill_(2)), a=L(conv, 3, 8), b=L(conv, 8, 2)),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "insists on float32": Case(
        _fn(lambda m, x: m.b(m.a(x.float())), a=L(conv, 3, 8), b=L(conv, 8, 2)),
        IMG,
        [("a", 8, 1, 1)],
        dtype=torch.float32,
    ),
    "insists on positive input": Case(
        _fn(
            lambda m, x: m.b(m.a(x).mean((2, 3)) * x.mean((1, 2, 3)).log()[:, None]),
            a=L(conv, 3, 8),
            b=L(nn.Linear, 8, 2),
        ),
        torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
        [("a", 8, 1, 1)],
    ),
    "noise": Case(
        _fn(lambda m, x: m.b(m.a(x) + torch.randn(2, 1, 8, 8, dtype=x.dtype)), a=L(conv, 3, 8), b=L(conv, 8, 2)),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "a parametrization that mixes": Case(
        lambda: nn.Sequential(_mixed(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 6), nn.Linear(6, 2)),
        torch.randn(2, 6),
        [("2", 6, 1, 1)],
        {"0": "remove_parametrizations"},
    ),
    "bag of words": Case(
        _fn(
            lambda m, x: m.b(F.relu(m.a(m.e(x)))),
            e=L(nn.EmbeddingBag, 9, 6),
            a=L(nn.Linear, 6, 4),
            b=L(nn.Linear, 4, 2),
        ),
        torch.arange(8).reshape(2, 4),
        [("a", 4, 1, 1)],
        {"e": "cannot follow"},
    ),
    "one head": Case(
        _fn(
            lambda m, x: m.o(F.scaled_dot_product_attention(*(part(x)[:, None] for part in (m.q, m.k, m.v)))[:, 0]),
            q=L(nn.Linear, 6, 8),
            k=L(nn.Linear, 6, 8),
            v=L(nn.Linear, 6, 8),
            o=L(nn.Linear, 8, 2),
        ),
        tokens(6),
        [("v", 8, 1, 1)],
        {"q": "root of their number", "k": "root of their number"},
    ),
    "images among tokens": Case(
        _fn(
            lambda m, x: m.c(m.a(x).masked_scatter(torch.arange(5)[:, None] < 2, m.b(x[:, :2].flatten(0, 1)))),
            a=L(nn.Linear, 6, 8),
            b=L(nn.Linear, 6, 8),
            c=L(nn.Linear, 8, 2),
        ),
        tokens(6),
        [("a", 8, 1, 1)],
    ),
    "entries among entries": Case(
        _fn(
            lambda m, x: m.c(m.a(x).masked_scatter(x[..., :4] > 0, m.a(x))), a=L(nn.Linear, 6, 4), c=L(nn.Linear, 4, 2)
        ),
        tokens(6),
        [],
        {"a": "masked_scatter"},
    ),
    "constant rows": Case(
        _fn(
            lambda m, x: m.c(m.b(m.a(x).index_fill(1, torch.tensor([0, 2]), 1)).index_fill(2, torch.tensor([1]), 0)),
            a=L(nn.Linear, 6, 8),
            b=L(nn.Linear, 8, 4),
            c=L(nn.Linear, 4, 2),
        ),
        tokens(6),
        [("a", 8, 1, 1)],
        {"b": "index_fill"},
    ),
    "averaged rows": Case(
        _fn(
            lambda m, x: m.c(
                torch.zeros(2, 3, m.a.out_features, dtype=x.dtype).index_reduce(
                    1, torch.tensor([0, 1, 1, 0, 2]), m.a(x), "mean", include_self=False
                )
            ),
            a=L(nn.Linear, 6, 8),
            c=L(nn.Linear, 8, 2),
        ),
        tokens(6),
        [("a", 8, 1, 1)],
    ),
    "softmax over channels": Case(
        _fn(lambda m, x: m.b(m.a(x).softmax(1)), a=L(conv, 3, 8), b=L(conv, 8, 2)), IMG, [("a", 8, 1, 1)]
    ),
    "write into a part": Case(
        _fn(lambda m, x: m.c(_write_half(m.a(x), m.b(x))), a=L(conv, 3, 8), b=L(conv, 3, 4), c=L(conv, 8, 2)),
        IMG,
        [],
        {"b": ""},
    ),
    "overwritten copy": Case(
        _fn(
            lambda m, x: m.c(_write_all((y := m.a(x)).clone(), m.b(x))) + m.c(y),
            a=L(conv, 3, 8),
            b=L(conv, 3, 8),
            c=L(conv, 8, 2),
        ),
        IMG,
        [("a", 8, 1, 1)],
    ),
    "whole write": Case(
        _fn(lambda m, x: m.c(_write_all(torch.empty(2, 8, 8, 8), m.a(x))), a=L(conv, 3, 8), c=L(conv, 8, 2)),
        IMG,
        [],
        {"a": ""},
        rescued=True,
    ),
}


def _write_half(x: Tensor, y: Tensor) -> Tensor:
    x[:, :4] = y
    return x


def _write_all(x: Tensor, y: Tensor) -> Tensor:
    x[:] = y
    return x
