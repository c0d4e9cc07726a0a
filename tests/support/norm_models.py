"""Hand-made networks whose widths are normalised, averaged or reduced over, with the units they must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.small_models import Attention, Fn, L, conv, image, tokens

WIDTH = 8
IMG, TOKENS, IDS = image(), tokens(6), torch.arange(10).reshape(2, 5) * 7 % 12
WHOLE = ("a", WIDTH, 1, 1)


@dataclass
class Case:
    """A model, its example and units as (name, channels, tied, groups); `over`: it runs over channels as a whole."""

    build: Callable[[], nn.Module]
    example: Tensor
    units: list[tuple[str, int, int, int]]
    over: bool = True


class HandLayerNorm(nn.Module):
    """A layer norm over the second dimension, as in ConvNeXt's own code."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.normalized_shape = (channels,)

    def forward(self, x: Tensor) -> Tensor:
        assert x.size(1) == self.normalized_shape[0]
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return self.weight[:, None, None] * (x - mean) / torch.sqrt(variance + 1e-6) + self.bias[:, None, None]


class HandRMSNorm(nn.Module):
    """As in Llama."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


class Functional(nn.Module):
    """A norm without weights that keeps its shape as a number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.normalized_shape = width

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, (self.normalized_shape,))


class Conv1D(nn.Module):
    """The linear layer of GPT-2."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight, self.bias = nn.Parameter(torch.zeros(nx, nf)), nn.Parameter(torch.zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight).view(*x.shape[:-1], self.nf)


class Vision(nn.Module):
    """Patches with a class token, register tokens and positions; their number of channels is known to the code."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.hidden_dim = nn.Conv2d(3, WIDTH, 4, 4), WIDTH
        self.cls = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.registers = nn.Parameter(torch.zeros(1, 2, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, 7, WIDTH))
        self.block, self.norm, self.head = Attention(WIDTH), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        x = self.a(x).reshape(n, self.hidden_dim, 4).permute(0, 2, 1)
        first = (self.cls.expand(n, -1, -1), self.registers.repeat(n, 1, 1))
        return self.head(self.norm(self.block(torch.cat([*first, x], 1) + self.positions))[:, 0])


class Language(nn.Module):
    """A decoder whose output layer has the embedding's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.positions = nn.Embedding(12, WIDTH), nn.Embedding(9, WIDTH)
        self.register_buffer("places", torch.arange(9).expand(1, -1))
        self.up, self.down = Conv1D(10, WIDTH), Conv1D(WIDTH, 10)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), HandRMSNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 12, bias=False)
        self.head.weight = self.a.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.a(ids) + self.positions(self.places[:, : ids.size(1)])
        return self.head(self.norm2(x + self.down(F.gelu(self.up(self.norm1(x))))))


class Biased(nn.Module):
    """Attention with a bias that is looked up for each pair of positions and each head, as in Swin."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.num_heads = nn.LayerNorm(WIDTH), 4
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.o = nn.Linear(WIDTH, WIDTH)
        self.table = nn.Parameter(torch.zeros(9, 4))
        place = torch.arange(5)
        self.register_buffer("index", (place[:, None] - place + 4).flatten())

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            f(self.norm(x)).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        bias = self.table[self.index].view(5, 5, -1).permute(2, 0, 1).contiguous()
        return x + self.o(((q @ k.transpose(-1, -2) + bias).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Shifted(nn.Module):
    """Attention whose queries are shifted by a scaled parameter, the same for every head."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.shift, self.num_heads = nn.Parameter(torch.zeros(5, 4)), 2

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = (q + self.shift * 0.5) @ k.transpose(-1, -2)
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class FusedRMSNorm(nn.RMSNorm):
    """What torch runs on other devices."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.aten._fused_rms_norm(x, self.normalized_shape, self.weight, 1e-6)[0]


def mlp(norm: Callable[[], nn.Module], last: bool = True) -> Callable[[], nn.Module]:
    """Return a factory of a residual feed-forward network of tokens, normalised before, within and after."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.a(x)
        x = x + m.down(F.gelu(m.up(m.norm1(x))))
        return m.head(m.norm2(x) if last else x)

    def build() -> nn.Module:
        layers = {"a": nn.Linear(6, WIDTH), "up": nn.Linear(WIDTH, 10), "down": nn.Linear(10, WIDTH)}
        return Fn(forward, **layers, norm1=norm(), norm2=norm(), head=nn.Linear(WIDTH, 3))

    return build


def convs(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    """Return a factory of a residual convolutional network."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.norm1(m.a(x))
        return m.head(F.relu(x + m.norm2(m.b(x))))

    return lambda: Fn(forward, a=conv(3, 8), norm1=norm(), b=conv(8, 8), norm2=norm(), head=conv(8, 2))


def between(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """Return a factory of a network that calls a function on the output of its first convolution."""
    return lambda: Fn(lambda m, x: m.b(function(m.a(x))), a=conv(3, WIDTH), b=conv(WIDTH, 2))


def gated(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    """Return a factory of a network whose channels are scaled by a map [N, maps, H, W] of all of them."""

    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.a(x)
        return m.b(x * m.map(function(x)).sigmoid())

    return lambda: Fn(forward, a=conv(3, WIDTH), map=nn.LazyConv2d(1, 1), b=conv(WIDTH, 2))


def maps(*functions: Callable[..., Any]) -> Callable[[], nn.Module]:
    """Return a factory of a network gated by what reductions (tensor, dimension, keepdim) make of its channels."""

    def build() -> nn.Module:
        model = gated(lambda x: torch.cat([f(x, 1, keepdim=True) for f in functions], 1))()
        model(IMG)
        return model

    return build


def encoder(**options: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 12, batch_first=True, **options)
        return nn.Sequential(nn.Linear(6, WIDTH), layer, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 3))

    return build


def _concatenated() -> nn.Module:
    return Fn(
        lambda m, x: m.head(m.norm(torch.cat([m.a(x), m.b(x)], -1))),
        a=nn.Linear(6, WIDTH),
        b=nn.Linear(6, 4),
        norm=nn.LayerNorm(WIDTH + 4),
        head=nn.Linear(WIDTH + 4, 3),
    )


def _grouped_concatenation() -> nn.Module:
    return Fn(
        lambda m, x: m.head(m.norm(torch.cat([m.a(x), m.b(x)], 1))),
        a=conv(3, 8),
        b=conv(3, 4),
        norm=nn.GroupNorm(2, 12),
        head=conv(12, 2),
    )


def _biased(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a variance that one channel has, too."""
    return partial(function, correction=0)


def _norm(x: Tensor, dim: int, keepdim: bool) -> Tensor:
    return torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)


MLP = [WHOLE, ("up", 10, 1, 1)]
CASES: dict[str, Case] = {
    "layer norm": Case(mlp(L(nn.LayerNorm, WIDTH)), TOKENS, MLP),
    "layer norm without weights": Case(mlp(L(nn.LayerNorm, WIDTH, elementwise_affine=False)), TOKENS, MLP),
    "layer norm of a user": Case(convs(L(HandLayerNorm, WIDTH)), IMG, [WHOLE]),
    "layer norm of whole images": Case(convs(L(nn.LayerNorm, (WIDTH, 8, 8))), IMG, [WHOLE]),
    "function": Case(mlp(L(Functional, WIDTH)), TOKENS, MLP),
    "rms norm": Case(mlp(L(nn.RMSNorm, WIDTH)), TOKENS, MLP),
    "rms norm by hand": Case(mlp(L(HandRMSNorm, WIDTH)), TOKENS, MLP),
    "rms norm of other devices": Case(mlp(L(FusedRMSNorm, WIDTH)), TOKENS, MLP),
    "group norm": Case(convs(L(nn.GroupNorm, 2, WIDTH)), IMG, [("a", WIDTH, 1, 2)]),
    "group norm of one group": Case(convs(L(nn.GroupNorm, 1, WIDTH)), IMG, [WHOLE]),
    "group norm of each channel": Case(convs(L(nn.GroupNorm, WIDTH, WIDTH)), IMG, [WHOLE], over=False),
    "group norm without weights": Case(convs(L(nn.GroupNorm, 4, WIDTH, affine=False)), IMG, [("a", WIDTH, 1, 4)]),
    "group norm of a concatenation": Case(_grouped_concatenation, IMG, [("a", 4, 2, 1), ("a#2", 4, 1, 1)]),
    "instance norm": Case(convs(L(nn.InstanceNorm2d, WIDTH, affine=True)), IMG, [WHOLE], over=False),
    "layer norm of a concatenation": Case(_concatenated, TOKENS, [WHOLE, ("b", 4, 1, 1)]),
    "softmax": Case(between(lambda x: x.softmax(1)), IMG, [WHOLE]),
    "log softmax": Case(between(lambda x: x.log_softmax(1)), IMG, [WHOLE]),
    "softmax by hand": Case(between(lambda x: x.exp() / x.exp().sum(1, keepdim=True)), IMG, [WHOLE]),
    "running sums": Case(between(lambda x: x.cumsum(1)), IMG, [WHOLE]),
    "normalize": Case(between(lambda x: F.normalize(x, dim=1)), IMG, [WHOLE]),
    "mean by hand": Case(between(lambda x: x - x.sum(1, keepdim=True) / x.size(1)), IMG, [WHOLE]),
    "mean of images by hand": Case(
        between(lambda x: x - x.sum((1, 2, 3), keepdim=True) * (1 / x[0].numel())), IMG, [WHOLE]
    ),
    "flattened": Case(between(lambda x: x.flatten(1).softmax(1).reshape(x.shape)), IMG, [WHOLE]),
    "channel attention": Case(maps(torch.mean, torch.amax), IMG, [WHOLE]),
    "statistics": Case(maps(_biased(torch.std), _biased(torch.var), torch.amin, torch.logsumexp), IMG, [WHOLE]),
    "of one number": Case(between(lambda x: x * (y := x.mean()).softmax(-1).sum(-1) + y.argmax(-1) + y), IMG, [WHOLE]),
    "sums": Case(maps(torch.sum, torch.prod, _norm), IMG, [WHOLE]),
    "first of two results": Case(
        maps(*(lambda x, d, keepdim, f=f: f(x, d, keepdim=keepdim)[0] for f in (torch.max, _biased(torch.var_mean)))),
        IMG,
        [WHOLE],
    ),
    "class token and positions": Case(Vision, IMG, [WHOLE, ("block.qkv", 24, 12, 1), ("block.up", 12, 1, 1)]),
    "tied embedding": Case(Language, IDS, [WHOLE, ("up", 10, 1, 1)]),
    "table of positions": Case(
        lambda: nn.Sequential(nn.Linear(6, WIDTH), Biased(), nn.Linear(WIDTH, 3)),
        TOKENS,
        [("0", WIDTH, 1, 1), ("1.q", 8, 2, 1)],
    ),
    "shift of every head": Case(
        lambda: nn.Sequential(nn.Linear(6, WIDTH), Shifted(), nn.Linear(WIDTH, 3)),
        TOKENS,
        [("0", WIDTH, 1, 1), ("1.q", 8, 4, 1), ("1.o", WIDTH, 1, 1)],
        over=False,
    ),
    **{
        f"encoder, norm {'first' if first else 'last'}": Case(
            encoder(norm_first=first),
            TOKENS,
            [("0", WIDTH, 1, 1), ("1.self_attn.in_proj_weight", 24, 12, 1), ("1.linear1", 12, 1, 1)],
        )
        for first in (True, False)
    },
}
WRONG: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "mean of so many": (between(lambda x: x - x.sum(1, keepdim=True) / 8), "differs"),
    "mean of a constant": (between(lambda x: x - x.sum(1, keepdim=True) / torch.tensor(8.0)), "differs"),
    "mean by a product": (between(lambda x: x - x.sum((1, 2), keepdim=True) * (1 / 64)), "differs"),
    "variance of so many": (
        between(lambda x: x / ((x - x.mean(1, keepdim=True)).pow(2).sum(1, keepdim=True) / 7)),
        "differs",
    ),
    "place of the largest": (between(lambda x: x * x.argmax(1, keepdim=True)), "argmax"),
    "place beside the largest": (between(lambda x: x * x.max(1, keepdim=True)[1]), "by max"),
    "groups by a view": (
        between(lambda x: F.layer_norm(x.view(2, 2, 4, 8, 8), (4, 8, 8)).view(2, 8, 8, 8)),
        "raises",
    ),
}
