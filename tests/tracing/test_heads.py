"""Attention heads: channel units whose step is a head, in every spelling; sliced is masked, costs are counted."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.pruning.surgery import Kept, Surgeon
from explorer.pruning.surgery.stand_ins import SmallerAttention
from explorer.tracing import trace
from explorer.tracing.tape import tensors_in
from explorer.tracing.verification.masking import masked
from spaces import Network, Recipe, costs_of
from tests.support.identities import (
    assert_costs_are_counted,
    assert_sliced_is_masked,
    counted,
    fresh,
    outputs,
    random_kept,
    random_recipe,
)
from tests.support.small_models import Fn, tokens

DIM, HEADS, SIZE = 8, 4, 2
TOKENS, OTHERS = tokens(), tokens(DIM, 7)
RECIPES = 4


def split(x: Tensor, heads: int) -> Tensor:
    """Return [N, heads, L, size] of [N, L, heads * size]."""
    return x.view(x.size(0), x.size(1), heads, -1).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """Return [N, L, heads * size] of [N, heads, L, size]."""
    return x.transpose(1, 2).flatten(2)


def weighted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q @ k.transpose(-2, -1)) * q.size(-1) ** -0.5).softmax(-1) @ v


def attention(forward: Callable[..., Any], **members: Any) -> nn.Module:
    """Return separate query, key and value layers, a projection `o`, and numbers a module may know."""
    layers = {name: nn.Linear(DIM, DIM) for name in "qkvo"}
    return Fn(forward, **{**layers, "num_heads": HEADS, **members})


def model(block: nn.Module) -> nn.Module:
    """Return a residual block of attention between layers; its norm fixes the residual channels."""
    return Fn(lambda m, x: m.head(x + m.attn(m.norm(x))), attn=block, norm=nn.LayerNorm(DIM), head=nn.Linear(DIM, 3))


def fused(forward: Callable[..., Any], **members: Any) -> nn.Module:
    layers = {"qkv": nn.Linear(DIM, 3 * DIM), "o": nn.Linear(DIM, DIM), "heads": HEADS, "head_dim": SIZE}
    return Fn(forward, **{**layers, **members})


def _views(m: Any, x: Tensor) -> Tensor:
    return m.o(merged(weighted(*(split(f(x), m.num_heads) for f in (m.q, m.k, m.v)))))


def _by_size(m: Any, x: Tensor) -> Tensor:
    q, k, v = (f(x).unflatten(-1, (-1, SIZE)).transpose(1, 2) for f in (m.q, m.k, m.v))
    return m.o(merged(weighted(q, k, v)))


def _both_sizes(m: Any, x: Tensor) -> Tensor:
    n, length, _ = x.shape
    q, k, v = (f(x).view(n, length, m.n_heads, SIZE).permute(0, 2, 1, 3) for f in (m.q, m.k, m.v))
    return m.o(weighted(q, k, v).permute(0, 2, 1, 3).contiguous().view(n, length, m.all_head_size))


def _einsum(m: Any, x: Tensor) -> Tensor:
    q, k, v = (f(x).unflatten(-1, (m.h, -1)) for f in (m.q, m.k, m.v))
    weights = torch.einsum("blhd,bmhd->bhlm", q, k).softmax(-1)
    return m.o(torch.einsum("bhlm,bmhd->blhd", weights, v).flatten(2))


def _fused_kernel(m: Any, x: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    q, k, v = (split(f(x), m.num_heads) for f in (m.q, m.k, m.v))
    return m.o(merged(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)))


def _merged_batch(m: Any, x: Tensor) -> Tensor:
    n, length, _ = x.shape
    q, k, v = (split(f(x), m.num_heads).reshape(n * m.num_heads, length, -1) for f in (m.q, m.k, m.v))
    out = torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v)
    return m.o(merged(out.view(n, m.num_heads, length, -1)))


def _length_first(m: Any, x: Tensor) -> Tensor:
    """Heads beside the batch, as torch's own attention lays them out."""
    n, length, _ = x.shape
    q, k, v = (f(x.transpose(0, 1)).reshape(length, n * m.num_heads, -1).transpose(0, 1) for f in (m.q, m.k, m.v))
    mask = torch.zeros(length, length, dtype=x.dtype)
    out = torch.baddbmm(mask, q, k.transpose(1, 2)).softmax(-1) @ v
    return m.o(out.transpose(0, 1).reshape(length, n, -1)).transpose(0, 1)


def _causal(m: Any, x: Tensor) -> Tensor:
    q, k, v = (split(f(x), m.n_head) for f in (m.q, m.k, m.v))
    scores = q @ k.transpose(-2, -1) / SIZE**0.5
    scores = scores.masked_fill(m.mask[:, :, : x.size(1), : x.size(1)] == 0, float("-inf"))
    return m.o(merged(F.dropout(scores.softmax(-1), 0.1, m.training) @ v))


class Causal(nn.Module):
    """A mask as a buffer that is longer than the input, as in nanoGPT."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM) for _ in range(4))
        self.n_head = HEADS
        self.register_buffer("mask", torch.tril(torch.ones(9, 9)).view(1, 1, 9, 9))

    def forward(self, x: Tensor) -> Tensor:
        return _causal(self, x)


class Learned(nn.Module):
    """Parameters for each head: a temperature, a slope and a bias for each pair of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(DIM, DIM) for _ in range(4))
        self.temperature, self.bias = nn.Parameter(torch.ones(HEADS, 1, 1)), nn.Parameter(torch.zeros(HEADS, 5, 5))
        self.table = nn.Embedding(9, HEADS)
        self.register_buffer("slopes", torch.rand(1, HEADS, 1, 1))
        self.heads = HEADS

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (split(f(x), self.heads) for f in (self.q, self.k, self.v))
        place = torch.arange(x.size(1))
        distance = place[:, None] - place
        scores = q @ k.transpose(-2, -1) * self.temperature + self.bias - self.slopes * distance.abs()
        scores = scores + self.table(distance + 4).permute(2, 0, 1)
        return self.o(merged(scores.softmax(-1) @ v))


def _rotated(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    angle = torch.arange(x.size(-2), dtype=x.dtype)[:, None]
    return x * angle.cos() + torch.cat([-second, first], -1) * angle.sin()


def _rotary(m: Any, x: Tensor) -> Tensor:
    q, k, v = (split(f(x), m.num_heads) for f in (m.q, m.k, m.v))
    return m.o(merged(F.scaled_dot_product_attention(_rotated(q), _rotated(k), v)))


def _normed(m: Any, x: Tensor) -> Tensor:
    q, k, v = (split(f(x), m.num_heads) for f in (m.q, m.k, m.v))
    return m.o(merged(F.scaled_dot_product_attention(m.norm_q(q), m.norm_k(k), v)))


def _linear_attention(m: Any, x: Tensor) -> Tensor:
    q, k, v = (split(f(x), m.num_heads) for f in (m.q, m.k, m.v))
    return m.o(merged(q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v)))


def _grouped(m: Any, x: Tensor, how: str = "repeat") -> Tensor:
    q, k, v = (split(f(x), heads) for f, heads in ((m.q, m.num_heads), (m.k, m.num_kv_heads), (m.v, m.num_kv_heads)))
    if how == "kernel":
        return m.o(merged(F.scaled_dot_product_attention(q, k, v, enable_gqa=True)))
    if how == "repeat":
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    else:
        k, v = (t[:, :, None].expand(-1, -1, 2, -1, -1).flatten(1, 2) for t in (k, v))
    return m.o(merged(weighted(q, k, v)))


def grouped(how: str) -> Callable[[], nn.Module]:
    """Return a factory of grouped-query attention: two queries share a key."""
    return lambda: model(
        attention(
            lambda m, x: _grouped(m, x, how), k=nn.Linear(DIM, DIM // 2), v=nn.Linear(DIM, DIM // 2), num_kv_heads=2
        )
    )


def _one_key(m: Any, x: Tensor) -> Tensor:
    q, k, v = split(m.q(x), m.num_heads), m.k(x)[:, None], m.v(x)[:, None]
    return m.o(merged(weighted(q, k, v)))


def _chunked(m: Any, x: Tensor) -> Tensor:
    return m.o(merged(weighted(*(split(part, m.heads) for part in m.qkv(x).chunk(3, -1)))))


def _split_size(m: Any, x: Tensor) -> Tensor:
    return m.o(merged(weighted(*(split(part, m.heads) for part in m.qkv(x).split(m.split_size, -1)))))


def _three(m: Any, x: Tensor) -> Tensor:
    """As in timm's ViT."""
    n, length, _ = x.shape
    q, k, v = m.qkv(x).reshape(n, length, 3, m.heads, m.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    return m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, m.attn_dim))


def _interleaved(m: Any, x: Tensor) -> Tensor:
    """Queries, keys and values of a head side by side, as in GPT-NeoX."""
    q, k, v = m.qkv(x).unflatten(-1, (m.heads, 3 * m.head_dim)).transpose(1, 2).chunk(3, -1)
    return m.o(merged(weighted(q, k, v)))


def _attribute_free(m: Any, x: Tensor) -> Tensor:
    return m.o(merged(weighted(*(split(f(x), 4) for f in (m.q, m.k, m.v)))))


def _one_head(m: Any, x: Tensor) -> Tensor:
    """Attention over all channels at once, as autoencoders of images have it."""
    scores = torch.bmm(m.q(x), m.k(x).transpose(1, 2)) * 0.3
    return m.o(torch.bmm(scores.softmax(-1), m.v(x)))


def _values_first(m: Any, x: Tensor) -> Tensor:
    q, k, v = (f(x).transpose(1, 2) for f in (m.q, m.k, m.v))
    scores = torch.bmm(q.transpose(1, 2), k) * 0.3
    return m.o(torch.bmm(v, scores.softmax(-1).transpose(1, 2)).transpose(1, 2))


def _dots(m: Any, x: Tensor) -> Tensor:
    """Products of every pair of features, as recommenders have them."""
    features = torch.stack([m.a(x), m.b(x), m.c(x)], 1)
    return m.head(torch.bmm(features, features.transpose(1, 2)).flatten(1))


def _shown(m: Any, x: Tensor) -> Any:
    q, k, v = (split(f(x), m.num_heads) for f in (m.q, m.k, m.v))
    weights = (q @ k.transpose(-2, -1)).softmax(-1)
    return m.o(merged(weights @ v)), weights.mean(1)


def _dot(m: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return weighted(q, k, v)


def _below(m: Any, x: Tensor) -> Tensor:
    """The product in a module of its own; the number of heads above it."""
    return m.o(merged(m.product(*(split(f(x), m.num_heads) for f in (m.q, m.k, m.v)))))


def torch_attention(*, cross: bool = False, need_weights: bool = False, **options: Any) -> Callable[[], nn.Module]:
    """Return a factory of nn.MultiheadAttention of inputs [N, L, dim], whatever its own order is."""

    def forward(m: Any, x: Tensor, y: Tensor | None = None) -> Tensor:
        y = x if y is None else y
        if not m.attn.batch_first:
            x, y = x.transpose(0, 1), x.transpose(0, 1) if y is x else y.transpose(0, 1)
        out = m.attn(x, y, y, need_weights=need_weights)[0] if cross else m.attn(x, x, x, need_weights=need_weights)[0]
        return m.head(m.norm(x + out))

    return lambda: Fn(
        forward, attn=nn.MultiheadAttention(DIM, HEADS, **options), norm=nn.LayerNorm(DIM), head=nn.Linear(DIM, 3)
    )


def _masks(m: Any, x: Tensor) -> Tensor:
    length = x.size(1)
    mask = torch.ones(length, length, dtype=torch.bool).triu(1)
    padding = torch.zeros(x.size(0), length, dtype=torch.bool)
    padding[:, 4:] = True
    x = x + m.a(x, x, x, attn_mask=mask, key_padding_mask=padding, need_weights=False)[0]
    weights = m.b(x, x, x, attn_mask=mask.to(x) * -3, is_causal=True, average_attn_weights=False)
    return m.head(m.norm(x + weights[0]))


def _encoder(**options: Any) -> nn.Module:
    layer = nn.TransformerEncoderLayer(DIM, HEADS, 12, batch_first=True, **options)
    return nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Linear(DIM, 3))


def _padded(m: Any, x: Tensor) -> Tensor:
    padding = torch.zeros(x.size(0), x.size(1), dtype=torch.bool)
    padding[:, 3:] = True
    return m.head(m.encoder(x, src_key_padding_mask=padding)[:, :3])


@dataclass
class Case:
    """A model, its example, and what tracing must say: units as (name, channels, tied), words of reasons by layer."""

    build: Callable[[], nn.Module]
    example: Any
    units: list[tuple[str, int, int]]
    fixed: dict[str, str] = field(default_factory=dict)
    rescued: bool = False


SEPARATE, FUSED, TORCH = [("attn.q", 8, 2)], [("attn.qkv", 24, 6)], [("attn.in_proj_weight", 24, 6)]


def layer(prefix: str) -> list[tuple[str, int, int]]:
    return [(f"{prefix}.self_attn.in_proj_weight", 24, 6), (f"{prefix}.linear1", 12, 1)]


CASES: dict[str, Case] = {
    "views": Case(lambda: model(attention(_views)), TOKENS, SEPARATE, {"attn.o": "model's input"}),
    "views by size": Case(lambda: model(attention(_by_size)), TOKENS, SEPARATE),
    "both sizes": Case(lambda: model(attention(_both_sizes, n_heads=HEADS, all_head_size=DIM)), TOKENS, SEPARATE),
    "einsum": Case(lambda: model(attention(_einsum, h=HEADS)), TOKENS, SEPARATE),
    "fused kernel": Case(lambda: model(attention(_fused_kernel)), TOKENS, SEPARATE),
    "fused kernel, causal": Case(
        lambda: model(attention(lambda m, x: _fused_kernel(m, x, causal=True))), TOKENS, SEPARATE
    ),
    "fused kernel, mask": Case(
        lambda: model(attention(lambda m, x: _fused_kernel(m, x, torch.ones(5, 5).tril().to(x).log()))),
        TOKENS,
        SEPARATE,
    ),
    "merged batch": Case(lambda: model(attention(_merged_batch)), TOKENS, SEPARATE),
    "length first": Case(lambda: model(attention(_length_first)), TOKENS, SEPARATE),
    "causal buffer": Case(lambda: model(Causal()), TOKENS, SEPARATE),
    "learned parameters for each head": Case(lambda: model(Learned()), TOKENS, SEPARATE),
    "rotary": Case(lambda: model(attention(_rotary)), TOKENS, SEPARATE),
    "normed queries and keys": Case(
        lambda: model(attention(_normed, norm_q=nn.LayerNorm(SIZE), norm_k=nn.RMSNorm(SIZE))), TOKENS, SEPARATE
    ),
    "linear attention": Case(lambda: model(attention(_linear_attention)), TOKENS, SEPARATE),
    "product in a module below": Case(
        lambda: model(attention(_below, product=Fn(_dot))), TOKENS, SEPARATE, {"attn.o": "model's input"}
    ),
    "grouped queries, repeated keys": Case(grouped("repeat"), TOKENS, [("attn.q", 8, 4)]),
    "grouped queries, expanded keys": Case(grouped("expand"), TOKENS, [("attn.q", 8, 4)]),
    "grouped queries, fused kernel": Case(grouped("kernel"), TOKENS, [("attn.q", 8, 4)]),
    "one key for all": Case(
        lambda: model(attention(_one_key, k=nn.Linear(DIM, SIZE), v=nn.Linear(DIM, SIZE))),
        TOKENS,
        SEPARATE,
        {"attn.k": "shared by all heads", "attn.v": "shared by all heads"},
    ),
    "chunk": Case(lambda: model(fused(_chunked)), TOKENS, FUSED),
    "split": Case(lambda: model(fused(_split_size, split_size=DIM)), TOKENS, FUSED),
    "three by heads by size": Case(lambda: model(fused(_three, attn_dim=DIM)), TOKENS, FUSED),
    "heads by three sizes": Case(lambda: model(fused(_interleaved)), TOKENS, FUSED),
    "one head": Case(
        lambda: model(attention(_views, num_heads=1)),
        TOKENS,
        [("attn.v", 8, 1)],
        {"attn.q": "sliced model"},
        rescued=True,
    ),
    "one head, scaled by a number": Case(
        lambda: model(attention(_one_head)), TOKENS, [("attn.q", 8, 1), ("attn.v", 8, 1)]
    ),
    "one head, values first": Case(
        lambda: model(attention(_values_first)), TOKENS, [("attn.q", 8, 1), ("attn.v", 8, 1)]
    ),
    "dots of features": Case(
        lambda: Fn(_dots, a=nn.Linear(DIM, 6), b=nn.Linear(DIM, 6), c=nn.Linear(DIM, 6), head=nn.Linear(9, 3)),
        torch.randn(2, DIM, generator=torch.Generator().manual_seed(0)),
        [("a", 6, 1)],
    ),
    "hard-coded number": Case(
        lambda: model(attention(_attribute_free)), TOKENS, [], {"attn.q": "sliced model"}, rescued=True
    ),
    "weights averaged over heads": Case(
        lambda: Fn(lambda m, x: m.attn(x), attn=attention(_shown)), TOKENS, [("attn.q", DIM, SIZE)]
    ),
    "torch": Case(torch_attention(batch_first=True), TOKENS, TORCH, {"attn.out_proj": ""}),
    "torch, length first": Case(torch_attention(), TOKENS, TORCH),
    "torch, with weights": Case(torch_attention(batch_first=True, need_weights=True), TOKENS, TORCH),
    "torch, without bias": Case(torch_attention(batch_first=True, bias=False), TOKENS, TORCH),
    "torch, cross": Case(torch_attention(batch_first=True, cross=True), (TOKENS, OTHERS), TORCH),
    "torch, cross, length first": Case(torch_attention(cross=True, need_weights=True), (TOKENS, OTHERS), TORCH),
    "torch, separate weights": Case(
        torch_attention(batch_first=True, cross=True, kdim=6, vdim=6),
        (TOKENS, tokens(6, 7)),
        [("attn.q_proj_weight", 8, 2)],
    ),
    "torch, masks": Case(
        lambda: Fn(
            _masks,
            a=nn.MultiheadAttention(DIM, HEADS, batch_first=True),
            b=nn.MultiheadAttention(DIM, 2, batch_first=True),
            norm=nn.LayerNorm(DIM),
            head=nn.Linear(DIM, 3),
        ),
        TOKENS,
        [("a.in_proj_weight", 24, 6), ("b.in_proj_weight", 24, 12)],
    ),
    "torch, added keys": Case(
        torch_attention(batch_first=True, add_bias_kv=True), TOKENS, [], {"attn.in_proj_weight": ""}, rescued=True
    ),
    "torch, added zeros": Case(
        torch_attention(batch_first=True, add_zero_attn=True), TOKENS, [], {"attn.in_proj_weight": ""}, rescued=True
    ),
    "torch, narrower inputs": Case(
        lambda: nn.Sequential(nn.Linear(8, DIM), Fn(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(DIM, 2))),
        TOKENS,
        [("0", 8, 1), ("1.a.in_proj_weight", 24, 12)],
    ),
    "encoder": Case(_encoder, TOKENS, [*layer("0.layers.0"), *layer("0.layers.1")]),
    "encoder, norm first": Case(
        lambda: _encoder(norm_first=True), TOKENS, [*layer("0.layers.0"), *layer("0.layers.1")]
    ),
    "encoder, padded": Case(
        lambda: Fn(_padded, encoder=_encoder()[0], head=nn.Linear(DIM, 3)),
        TOKENS,
        [*layer("encoder.layers.0"), *layer("encoder.layers.1")],
    ),
    "transformer": Case(
        lambda: Fn(
            lambda m, x, y: m.head(m.t(x, y)),
            t=nn.Transformer(DIM, HEADS, 1, 1, 12, batch_first=True),
            head=nn.Linear(DIM, 3),
        ),
        (OTHERS, TOKENS),
        [
            *layer("t.encoder.layers.0"),
            ("t.decoder.layers.0.self_attn.in_proj_weight", 24, 6),
            ("t.decoder.layers.0.multihead_attn.in_proj_weight", 24, 6),
            ("t.decoder.layers.0.linear1", 12, 1),
        ],
    ),
}
PRUNABLE = [name for name, case in CASES.items() if case.units]


def _build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].build().eval()


def _kept(network: Network, seed: int = 0) -> Kept:
    rng = np.random.default_rng(seed)
    return random_kept(network, random_recipe(network, rng), rng)


@pytest.mark.parametrize("name", CASES)
def test_units_and_reasons(name: str) -> None:
    case = CASES[name]
    network = trace(_build(name), case.example)
    assert [(unit.name, unit.channels, unit.tied) for unit in network.units] == case.units
    for layer, words in case.fixed.items():
        assert any(words in entry.reason for entry in network.fixed if entry.name == layer), network.fixed
    assert (trace(_build(name), case.example, verify=False).units != network.units) == case.rescued
    assert Network.from_yaml(network.to_yaml()) == network
    for product in network.products:
        for dim in product.dims[:1]:
            assert {run.each for run in dim.spans} == {1} or len(product.dims) == 2


@pytest.mark.parametrize("name", CASES)
def test_sliced_is_masked_and_costs_are_counted(name: str) -> None:
    case, rng = CASES[name], np.random.default_rng(0)
    network, dense = trace(_build(name), case.example), fresh(_build(name))
    assert_costs_are_counted(_build(name), network, case.example, Recipe(), {})
    for _ in range(RECIPES if network.units else 0):
        recipe = random_recipe(network, rng)
        kept = random_kept(network, recipe, rng)
        assert_sliced_is_masked(dense, network, case.example, kept)
        assert_costs_are_counted(_build(name), network, case.example, recipe, kept)


@pytest.mark.parametrize("name", PRUNABLE)
def test_every_head_alone(name: str) -> None:
    case = CASES[name]
    network, dense = trace(_build(name), case.example), fresh(_build(name))
    for unit in network.units:
        for atom in range(unit.atoms if unit.tied > 1 else 0):
            assert_sliced_is_masked(dense, network, case.example, {unit.name: torch.tensor([atom])})


@pytest.mark.parametrize("name", PRUNABLE)
def test_results_stand_alone(name: str) -> None:
    case = CASES[name]
    dense, network = _build(name), trace(_build(name), case.example)
    kept = {unit.name: torch.arange(unit.atoms - 1) for unit in network.units}
    small = Surgeon(dense, network).build(kept)
    expected = outputs(small, case.example)
    args = case.example if isinstance(case.example, tuple) else (case.example,)
    # a skeleton without weights, as an exported sub-network is loaded into
    with torch.device("meta"):
        skeleton = CASES[name].build().eval()
    if not any(buffer.is_meta for _, buffer in skeleton.named_buffers()):
        loaded = Surgeon(skeleton, network).build(kept)
        loaded.load_state_dict(small.state_dict(), strict=True, assign=True)
        torch.testing.assert_close(outputs(loaded, case.example), expected)
    file = io.BytesIO()
    if not any(isinstance(module, Fn) for module in small.modules()):
        torch.save(small, file)
        file.seek(0)
        torch.testing.assert_close(outputs(torch.load(file, weights_only=False), case.example), expected)
    exported = torch.export.export(small, args).module()
    for other in (copy.deepcopy(small), exported):
        torch.testing.assert_close(outputs(other, case.example), expected)
    sum(out.square().sum() for out in tensors_in(small.train()(*args))).backward()
    assert all(parameter.grad is not None for parameter in small.parameters())


def test_the_dense_recipe_keeps_torchs_attention() -> None:
    dense = _build("encoder")
    network = trace(dense, TOKENS)
    small = Surgeon(dense, network).build({"0.layers.0.self_attn.in_proj_weight": torch.tensor([1])})
    kinds = [type(module) for module in small.modules() if isinstance(module, nn.MultiheadAttention)]
    assert kinds == [SmallerAttention, nn.MultiheadAttention]
    first, second = small[0].layers[0].self_attn, small[0].layers[1].self_attn
    assert (first.num_heads, first.head_dim, first.embed_dim) == (1, SIZE, DIM)
    assert (second.num_heads, second.head_dim, second.embed_dim) == (HEADS, SIZE, DIM)
    assert not small[0].use_nested_tensor
    assert dense[0].layers[0].self_attn.num_heads == HEADS


def test_attributes_that_count_heads() -> None:
    dense = _build("both sizes")
    small = Surgeon(dense, trace(dense, TOKENS)).build({"attn.q": torch.tensor([0, 2, 3])})
    assert (small.attn.n_heads, small.attn.all_head_size, small.attn.q.out_features) == (3, 6, 6)
    assert (dense.attn.n_heads, dense.attn.all_head_size) == (HEADS, DIM)
    grouped_queries = _build("grouped queries, repeated keys")
    small = Surgeon(grouped_queries, trace(grouped_queries, TOKENS)).build({"attn.q": torch.tensor([1])})
    assert (small.attn.num_heads, small.attn.num_kv_heads) == (2, 1)


def test_a_head_by_hand() -> None:
    """The rows of query, key and value of the heads kept, and the projection's columns."""
    dense = _build("torch")
    small = Surgeon(dense, trace(dense, TOKENS)).build({"attn.in_proj_weight": torch.tensor([0, 3])})
    rows = torch.tensor([0, 1, 6, 7])
    packed = torch.cat([rows, rows + DIM, rows + 2 * DIM])
    assert torch.equal(small.attn.in_proj_weight, dense.attn.in_proj_weight[packed])
    assert torch.equal(small.attn.in_proj_bias, dense.attn.in_proj_bias[packed])
    assert torch.equal(small.attn.out_proj.weight, dense.attn.out_proj.weight[:, rows])
    assert torch.equal(small.attn.out_proj.bias, dense.attn.out_proj.bias)


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("unbatched", [True, False])
@pytest.mark.parametrize("masks", ["", "bool", "float", "heads", "padding", "both"])
def test_smaller_attention_is_torchs_where_torch_can(
    weights: bool, average: bool, batch_first: bool, unbatched: bool, masks: str
) -> None:
    torch.manual_seed(0)
    dense = nn.MultiheadAttention(DIM, HEADS, batch_first=batch_first).double().eval()
    small = copy.deepcopy(dense)
    small.__class__ = SmallerAttention
    torch.nn.init.normal_(small.in_proj_bias)
    dense.load_state_dict(small.state_dict())
    x, y = torch.randn(2, 5, DIM).double(), torch.randn(2, 7, DIM).double()
    if unbatched:
        x, y = x[0], y[0]
    elif not batch_first:
        x, y = x.transpose(0, 1), y.transpose(0, 1)
    options: dict[str, Any] = {"need_weights": weights, "average_attn_weights": average}
    if masks in ("bool", "both"):
        options["attn_mask"] = torch.rand(5, 7) > 0.8
    if masks == "float":
        options["attn_mask"] = torch.randn(5, 7).double()
    if masks == "heads":
        options["attn_mask"] = torch.randn(HEADS if unbatched else 2 * HEADS, 5, 7).double()
    if masks in ("padding", "both"):
        padding = torch.zeros(2, 7, dtype=torch.bool)
        padding[:, 5:] = True
        options["key_padding_mask"] = padding[0] if unbatched else padding
    for a, b in zip(dense(x, y, y, **options), small(x, y, y, **options), strict=True):
        torch.testing.assert_close(a, b)


def test_batch_makes_no_difference() -> None:
    for name in (
        "views",
        "einsum",
        "merged batch",
        "length first",
        "torch",
        "encoder",
        "grouped queries, fused kernel",
    ):
        for batch in (1, 3):
            example = torch.zeros(batch, *TOKENS.shape[1:])
            assert trace(_build(name), example).units == trace(_build(name), TOKENS).units
            assert trace(_build(name), example).products == trace(_build(name), TOKENS).products


LAYERS: list[Callable[[], nn.Module]] = [
    lambda: attention(_views),
    lambda: attention(_einsum, h=HEADS),
    lambda: attention(_fused_kernel),
    lambda: attention(_grouped, k=nn.Linear(DIM, DIM // 2), v=nn.Linear(DIM, DIM // 2), num_kv_heads=2),
    lambda: fused(_chunked),
    lambda: fused(_interleaved),
    lambda: Fn(lambda m, x: m.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(DIM, HEADS, batch_first=True)),
    lambda: nn.Sequential(nn.Linear(DIM, 12), nn.GELU(), nn.Linear(12, DIM)),
]
WRAPS: list[Callable[[nn.Module], nn.Module]] = [
    lambda f: Fn(lambda m, x: x + m.f(m.n(x)), f=f, n=nn.LayerNorm(DIM)),
    lambda f: Fn(lambda m, x: m.n(x + m.f(x)), f=f, n=nn.LayerNorm(DIM)),
    lambda f: Fn(lambda m, x: F.relu(x + m.f(x)), f=f),
    lambda f: f,
]


@pytest.mark.parametrize("seed", range(12))
def test_random_transformers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)

    def block(depth: int) -> nn.Module:
        inner = [LAYERS[rng.integers(len(LAYERS))]() for _ in range(rng.integers(1, 3))]
        if depth < 2 and rng.random() < 0.5:
            inner.append(block(depth + 1))
        return WRAPS[rng.integers(len(WRAPS))](nn.Sequential(*inner))

    dense = nn.Sequential(nn.Linear(DIM, DIM), *(block(0) for _ in range(3)), nn.Linear(DIM, 3)).eval()
    network, precise = trace(dense, TOKENS), fresh(dense)
    heads = sum(unit.tied > 1 for unit in network.units)
    assert heads == len({dim.units for product in network.products for dim in product.dims})
    for _ in range(6):
        recipe = random_recipe(network, rng)
        kept = random_kept(network, recipe, rng)
        dropped = [entry.name for entry in network.blocks if rng.random() < 0.3]
        small = Surgeon(precise, network).build(kept, dropped)
        torch.testing.assert_close(outputs(small, TOKENS), outputs(masked(precise, network, kept, dropped), TOKENS))
        recipe = Recipe.of(recipe.ratios, blocks=dropped)
        assert costs_of(network, recipe) == counted(Surgeon(dense, network).build(kept, dropped), TOKENS)
