"""Residual blocks: which can be dropped, which cannot and why; dropped and overwritten are the same network."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer import models
from explorer.pruning.surgery import Kept, Skip, Surgeon
from explorer.tracing import trace
from explorer.tracing.verification.masking import masked
from explorer.tracing.verification.verify import verified
from spaces import BlockUnit, FixedBlock, Network, Recipe, costs_of
from tests.support.identities import counted, fresh, outputs, random_kept, random_recipe
from tests.support.small_models import IMG, Attention, Fn, _shuffle, cbr, conv, tokens

TOKENS = tokens()


def residual(width: int = 8, inner: int = 6) -> nn.Module:
    """Return a block with a post-added activation, as ResNet has it."""
    return Fn(lambda m, x: F.relu(x + m.b(m.a(x))), a=cbr(width, inner), b=conv(inner, width))


def feed_forward(dim: int = 8, inner: int = 12) -> nn.Module:
    return nn.Sequential(nn.Linear(dim, inner), nn.GELU(), nn.Linear(inner, dim))


def mlp(forward: Callable[..., Any], dim: int = 8, **members: Any) -> nn.Module:
    """Return a block of tokens with a function of (itself, x, ...) and a feed-forward branch `f`."""
    return Fn(forward, f=feed_forward(dim), **members)


def around(*blocks: nn.Module, forward: Callable[..., Any] | None = None, **members: Any) -> nn.Module:
    """Return a model of tokens with `blocks` in its middle."""

    def plain(m: Any, x: Tensor) -> Tensor:
        for block in m.blocks:
            x = block(x)
        return x

    def run(m: Any, x: Tensor, *rest: Any) -> Tensor:
        return m.head((forward or plain)(m, m.stem(x), *rest))

    return Fn(run, stem=nn.Linear(8, 8), blocks=nn.ModuleList(blocks), head=nn.Linear(8, 3), **members)


def images(*blocks: nn.Module, width: int = 8) -> nn.Module:
    return nn.Sequential(cbr(3, width), *blocks, conv(width, 2))


class StochasticDepth(nn.Module):
    """Drops its input at random while training."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand(x.size(0), *[1] * (x.dim() - 1)) > 0.5) / 0.5


class SelfOutput(nn.Module):
    """Adds what another module computed, as Hugging Face's BertSelfOutput does."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        return self.norm(self.dense(hidden) + x)


class Bert(nn.Module):
    """A post-norm transformer layer whose additions are in modules below, and that returns a tuple."""

    def __init__(self, dim: int = 8, inner: int = 12) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": nn.Linear(dim, dim), "output": SelfOutput(dim)})
        self.up, self.output = nn.Linear(dim, inner), SelfOutput(dim)
        self.output.dense = nn.Linear(inner, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.attention["output"](self.attention["self"](x).tanh(), x)
        return self.output(F.gelu(self.up(x)), x), mask


class Masked(nn.Module):
    """A block that needs a mask, and returns both."""

    def __init__(self) -> None:
        super().__init__()
        self.f = feed_forward()

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return x + self.f(x) * mask.exp(), mask


class Swish(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


@dataclass
class Case:
    """A model, its example, what each block returns, and words of why others are fixed.

    `rescued` says that verification may have fixed a block that tracing alone offers.
    """

    build: Callable[[], nn.Module]
    example: Any
    blocks: dict[str, Any]
    fixed: dict[str, str] = field(default_factory=dict)
    rescued: bool = False


def _chain(m: Any, x: Tensor, infinite: bool = False) -> Tensor:
    mask = (x.mean(-1, keepdim=True) > 0).to(x)
    mask = mask.log() if infinite else mask
    for block in m.blocks:
        x, mask = block(x, mask)
    return x


def _first(m: Any, x: Tensor) -> Tensor:
    for block in m.blocks:
        x = block(x)[0]
    return x


def _shared() -> nn.Module:
    model = around(mlp(lambda m, x: x + m.f(x)), mlp(lambda m, x: x + m.f(x)), mlp(lambda m, x: x + m.f(x)))
    model.blocks[1].f[0].weight = model.blocks[0].f[0].weight
    return model


def _shared_activation() -> nn.Module:
    act = Swish()
    return images(*(Fn(lambda m, x: m.act(x + m.a(m.act(x))), a=conv(8, 8), act=act) for _ in range(3)))


def _borrowed() -> nn.Module:
    model = around(mlp(lambda m, x: x + m.f(x)), mlp(lambda m, x: x + m.f(F.linear(x, m.other[0].weight))))
    model.blocks[1].other = (model.blocks[0].f[0],)
    model.blocks[1].f[0] = nn.Linear(12, 12)
    return model


def _named_twice() -> nn.Module:
    model = around(mlp(lambda m, x: x + m.f(x)), mlp(lambda m, x: x + m.f(x)))
    model.first = model.blocks[0]
    return model


def _noted(m: Any, x: Tensor) -> Tensor:
    for block in m.blocks:
        x = block(x)
    return x + m.blocks[0].seen


def _note(m: Any, x: Tensor) -> Tensor:
    m.seen = m.f(x)
    return x + m.seen


def _strided(m: Any, x: Tensor) -> Tensor:
    # the model's code reads an attribute of its block
    for block in m.blocks:
        assert block.stride == 1
        x = block(x)
    return x


def _with_stride() -> nn.Module:
    blocks = [mlp(lambda m, x: x + m.f(x)) for _ in range(2)]
    for block in blocks:
        block.stride = 1
    return around(*blocks, forward=_strided)


def _written(m: Any, x: Tensor) -> Tensor:
    y = x
    x = m.blocks[0](x)
    return x + y


def _encoder(norm_first: bool) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=norm_first)
        encoder = nn.TransformerEncoder(layer, 3, nn.LayerNorm(8), enable_nested_tensor=False)
        return nn.Sequential(nn.Linear(8, 8), encoder, nn.Linear(8, 3))

    return build


def _decoder() -> nn.Module:
    layer = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True)
    return Fn(
        lambda m, x, y: m.head(m.decoder(m.a(x), m.b(y))),
        a=nn.Linear(8, 8),
        b=nn.Linear(8, 8),
        decoder=nn.TransformerDecoder(layer, 2),
        head=nn.Linear(8, 3),
    )


def _padded(m: Any, x: Tensor) -> Tensor:
    # what torch's encoder turns into a nested tensor where it uses its fused kernel
    padding = torch.zeros(x.size(0), x.size(1), dtype=torch.bool)
    padding[:, 3:] = True
    return m.head(m.encoder(x, src_key_padding_mask=padding)[:, :3])


CASES: dict[str, Case] = {
    "post-activation": Case(lambda: images(residual(), residual()), IMG, {"1": 0, "2": 0}),
    "pre-activation": Case(
        lambda: images(*(Fn(lambda m, x: x + m.a(F.relu(m.n(x))), a=conv(8, 8), n=nn.BatchNorm2d(8)) for _ in "ab")),
        IMG,
        {"1": 0, "2": 0},
    ),
    "bottleneck": Case(
        lambda: images(
            Fn(lambda m, x: m.act(m.c(m.b(m.a(x))) + x), a=cbr(8, 4), b=cbr(4, 4), c=conv(4, 8, 1), act=nn.ReLU(True))
        ),
        IMG,
        {"1": 0},
    ),
    "projection": Case(
        lambda: images(residual(), Fn(lambda m, x: F.relu(m.a(x) + m.p(x)), a=cbr(8, 8), p=conv(8, 8, 1))),
        IMG,
        {"1": 0},
        {"2": "its shortcut is computed"},
    ),
    "downsampling": Case(
        lambda: images(
            Fn(lambda m, x: F.relu(m.a(x) + m.p(x)), a=conv(8, 8, stride=2), p=conv(8, 8, 1, stride=2)), residual()
        ),
        IMG,
        {"2": 0},
        {"1": "changes the shape"},
    ),
    "scaled branch": Case(lambda: images(Fn(lambda m, x: x + 0.1 * m.a(x), a=cbr(8, 8))), IMG, {"1": 0}),
    "in-place sum": Case(lambda: images(Fn(lambda m, x: _plus(m.a(x), x), a=conv(8, 8))), IMG, {"1": 0}),
    "in-place sum into the argument": Case(lambda: around(mlp(lambda m, x: _plus(x, m.f(x)))), TOKENS, {"blocks.0": 0}),
    "in-place sum that the caller reads": Case(
        lambda: around(mlp(lambda m, x: _plus(x, m.f(x))), forward=_written), TOKENS, {}, {"blocks.0": ""}, rescued=True
    ),
    "torch.add": Case(lambda: around(mlp(lambda m, x: torch.add(m.f(x), x))), TOKENS, {"blocks.0": 0}),
    "several additions": Case(
        lambda: around(mlp(lambda m, x: x + m.f(x) + m.g(x), g=feed_forward())), TOKENS, {"blocks.0": 0}
    ),
    "views on the way": Case(
        lambda: around(mlp(lambda m, x: (x.flatten(0, 1) + m.f(x.flatten(0, 1))).unflatten(0, x.shape[:2]))),
        TOKENS,
        {"blocks.0": 0},
    ),
    "own activation": Case(lambda: around(mlp(lambda m, x: m.act(x + m.f(x)), act=Swish())), TOKENS, {"blocks.0": 0}),
    "post-norm": Case(
        lambda: around(*(mlp(lambda m, x: m.n(x + m.f(x)), n=nn.LayerNorm(8)) for _ in "ab")),
        TOKENS,
        {"blocks.0": 0, "blocks.1": 0},
    ),
    "post-RMSNorm": Case(lambda: around(mlp(lambda m, x: m.n(x + m.f(x)), n=nn.RMSNorm(8))), TOKENS, {"blocks.0": 0}),
    "GPT-like": Case(lambda: around(Attention(), Attention()), TOKENS, {"blocks.0": 0, "blocks.1": 0}),
    "norm first": Case(_encoder(True), TOKENS, {f"1.layers.{i}": 0 for i in range(3)}),
    "norm last": Case(_encoder(False), TOKENS, {f"1.layers.{i}": 0 for i in range(3)}),
    "padded encoder": Case(
        lambda: Fn(
            _padded,
            encoder=nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, batch_first=True), 2),
            head=nn.Linear(8, 3),
        ),
        TOKENS,
        {"encoder.layers.0": 0, "encoder.layers.1": 0},
    ),
    "decoder": Case(_decoder, (TOKENS, tokens(8, 7)), {"decoder.layers.0": 0, "decoder.layers.1": 0}),
    "additions in modules below": Case(
        lambda: around(Bert(), Bert(), forward=_first),
        TOKENS,
        {"blocks.0": (0, None), "blocks.1": (0, None)},
        {
            "blocks.0.output": "computed for it alone",
            "blocks.0.attention.output": "computed for it alone",
            "blocks.1.output": "computed for it alone",
            "blocks.1.attention.output": "computed for it alone",
        },
    ),
    "additions in a module of their own": Case(
        lambda: around(mlp(lambda m, x: m.plus(m.f(x), x), plus=Fn(lambda m, a, b: a + b))), TOKENS, {"blocks.0": 0}
    ),
    "keyword": Case(
        lambda: around(mlp(lambda m, *, x: x + m.f(x)), forward=lambda m, x: m.blocks[0](x=x)),
        TOKENS,
        {"blocks.0": "x"},
    ),
    "second argument": Case(
        lambda: around(mlp(lambda m, scale, x: x + scale * m.f(x)), forward=lambda m, x: m.blocks[0](2.0, x)),
        TOKENS,
        {"blocks.0": 1},
    ),
    "tuple with nothing": Case(
        lambda: around(mlp(lambda m, x: (x + m.f(x), None)), forward=_first), TOKENS, {"blocks.0": (0, None)}
    ),
    "list": Case(lambda: around(mlp(lambda m, x: [x + m.f(x)]), forward=_first), TOKENS, {"blocks.0": (0,)}),
    "argument passed through": Case(
        lambda: around(Masked(), Masked(), forward=_chain), TOKENS, {"blocks.0": (0, 1), "blocks.1": (0, 1)}
    ),
    "infinite mask passed through": Case(
        lambda: around(Masked(), Masked(), forward=lambda m, x: _chain(m, x, infinite=True)),
        TOKENS,
        {"blocks.0": (0, 1), "blocks.1": (0, 1)},
    ),
    "tuple with something computed": Case(
        lambda: around(mlp(lambda m, x: (x + m.f(x), m.f(x).sum())), forward=_first),
        TOKENS,
        {},
        {"blocks.0": "returns other things"},
    ),
    "tuple with a constant": Case(
        lambda: around(mlp(lambda m, x: (x + m.f(x), 3)), forward=_first), TOKENS, {}, {"blocks.0": "returns other"}
    ),
    "dict": Case(
        lambda: around(mlp(lambda m, x: {"y": x + m.f(x)}), forward=lambda m, x: m.blocks[0](x)["y"]),
        TOKENS,
        {},
        {"blocks.0": "returns a dict"},
    ),
    "argument computed for it alone": Case(
        lambda: around(
            mlp(lambda m, x, y: x + m.f(x) * y), forward=lambda m, x: m.blocks[0](x, m.g(x)), g=nn.Linear(8, 8)
        ),
        TOKENS,
        {},
        {"blocks.0": "computed for it alone"},
    ),
    "argument that others need": Case(
        lambda: around(
            *(mlp(lambda m, x, y: x + m.f(x) * y) for _ in "ab"),
            forward=lambda m, x: m.blocks[1](m.blocks[0](x, y := m.g(x)), y),
            g=nn.Linear(8, 8),
        ),
        TOKENS,
        {"blocks.0": 0, "blocks.1": 0},
    ),
    "shared weight": Case(
        _shared, TOKENS, {"blocks.2": 0}, {"blocks.0": "shares a weight", "blocks.1": "shares a weight"}
    ),
    "borrowed weight": Case(
        _borrowed, TOKENS, {}, {"blocks.0": "also used outside", "blocks.1": "uses blocks.0.f.0.weight"}
    ),
    "shared activation": Case(_shared_activation, IMG, {"1": 0, "2": 0, "3": 0}),
    "block of two names": Case(_named_twice, TOKENS, {"blocks.1": 0}, {"blocks.0": "shares a weight"}),
    "run twice": Case(
        lambda: around(
            *(mlp(lambda m, x: x + m.f(x)) for _ in "ab"), forward=lambda m, x: m.blocks[0](m.blocks[1](m.blocks[0](x)))
        ),
        TOKENS,
        {"blocks.1": 0},
        {"blocks.0": "runs 2 times"},
    ),
    "part run outside": Case(
        lambda: around(mlp(lambda m, x: x + m.f(x)), forward=lambda m, x: m.blocks[0].f[0](m.blocks[0](x))[..., :8]),
        TOKENS,
        {},
        {"blocks.0": "also used outside of it"},
    ),
    "activation read by the caller": Case(
        lambda: around(mlp(_note), forward=_noted), TOKENS, {}, {"blocks.0": "AttributeError"}, rescued=True
    ),
    "attribute read by the caller": Case(_with_stride, TOKENS, {"blocks.0": 0, "blocks.1": 0}),
    "stochastic depth": Case(
        lambda: around(*(mlp(lambda m, x: x + m.drop(m.f(x)), drop=StochasticDepth()) for _ in "ab")),
        TOKENS,
        {"blocks.0": 0, "blocks.1": 0},
    ),
    "a block in a block": Case(
        lambda: around(mlp(lambda m, x: x + m.f(m.inner(x)), inner=mlp(lambda m, x: x + m.f(x)))),
        TOKENS,
        {"blocks.0": 0, "blocks.0.inner": 0},
    ),
    "a block in a block's way": Case(
        lambda: around(mlp(lambda m, x: (y := m.inner(x)) + m.f(y), inner=mlp(lambda m, x: x + m.f(x)))),
        TOKENS,
        {"blocks.0": 0, "blocks.0.inner": 0},
    ),
    "a sequence of blocks": Case(
        lambda: images(nn.Sequential(residual(), nn.Sequential(residual()), nn.ReLU())), IMG, {"1.0": 0, "1.1.0": 0}
    ),
    "a wrapper": Case(
        lambda: around(Fn(lambda m, x: x + m.f(x), f=feed_forward()), feed_forward()), TOKENS, {"blocks.0": 0}
    ),
    "no weights": Case(lambda: images(Fn(lambda m, x: x + F.relu(x))), IMG, {}),
    "a constant added": Case(lambda: images(Fn(lambda m, x: m.a(x) * 0 + 1, a=conv(8, 8))), IMG, {}),
    "two branches": Case(
        lambda: images(Fn(lambda m, x: m.c(m.a(x) + m.b(x)), a=conv(8, 8), b=conv(8, 8), c=conv(8, 8))), IMG, {}
    ),
    "gate": Case(lambda: images(Fn(lambda m, x: x * m.a(x).sigmoid(), a=conv(8, 8))), IMG, {}),
    "other channel order": Case(
        lambda: images(Fn(lambda m, x: _shuffle(x + m.a(x), 2), a=conv(8, 8))),
        IMG,
        {},
        {"1": "another order"},
    ),
    "other order of the same shape": Case(
        lambda: images(Fn(lambda m, x: (x + m.a(x)).transpose(1, 2), a=conv(8, 8))),
        IMG,
        {},
        {"1": "does not follow"},
        rescued=True,
    ),
    "whole model": Case(lambda: Fn(lambda m, x: x + m.a(x), a=conv(3, 3)), IMG, {}),
    "first of all": Case(lambda: nn.Sequential(residual(3), conv(3, 2)), IMG, {"0": 0}),
    "residual layer": Case(
        lambda: around(ResidualLinear(8, 8), ResidualLinear(8, 8)), TOKENS, {"blocks.0": 0, "blocks.1": 0}
    ),
    "object": Case(
        lambda: around(mlp(lambda m, x: SimpleNamespace(y=x + m.f(x))), forward=lambda m, x: m.blocks[0](x).y),
        TOKENS,
        {},
        {"blocks.0": "returns a SimpleNamespace"},
    ),
}


class ResidualLinear(nn.Linear):
    """A layer that is a block: unit and block have one name."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def _plus(x: Tensor, y: Tensor) -> Tensor:
    x += y
    return x


def _build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return CASES[name].build().eval()


def _choices(network: Network) -> list[list[str]]:
    """Return none of the blocks, each alone, all, and some."""
    names = [block.name for block in network.blocks]
    rng = np.random.default_rng(0)
    return [[], *([name] for name in names), names, [name for name in names if rng.random() < 0.5]]


def _kept(network: Network, seed: int = 0) -> Kept:
    rng = np.random.default_rng(seed)
    return random_kept(network, random_recipe(network, rng), rng)


def assert_dropped_is_masked(model: nn.Module, network: Network, example: Any, kept: Kept, dropped: list[str]) -> None:
    expected = outputs(masked(model, network, kept, dropped), example)
    got = outputs(Surgeon(model, network).build(kept, dropped), example)
    for a, b in zip(expected, got, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(b, a, rtol=0, atol=1e-9 * max(1e-30, float(a.abs().max())))


@pytest.mark.parametrize("name", CASES)
def test_blocks_and_reasons(name: str) -> None:
    case = CASES[name]
    network = trace(_build(name), case.example)
    assert {block.name: block.returns for block in network.blocks} == case.blocks
    reasons = {block.name: block.reason for block in network.fixed_blocks}
    assert reasons.keys() == case.fixed.keys()
    for block, words in case.fixed.items():
        assert words in reasons[block], reasons
    assert all(reason and "\n" not in reason for reason in reasons.values())
    assert (trace(_build(name), case.example, verify=False).blocks != network.blocks) == case.rescued
    assert Network.from_yaml(network.to_yaml()) == network


@pytest.mark.parametrize("name", CASES)
def test_dropped_is_masked_and_costs_are_counted(name: str) -> None:
    case = CASES[name]
    network, model, rng = trace(_build(name), case.example), fresh(_build(name)), np.random.default_rng(0)
    for dropped in _choices(network):
        recipe = random_recipe(network, rng)
        kept = random_kept(network, recipe, rng)
        assert_dropped_is_masked(model, network, case.example, {}, dropped)
        assert_dropped_is_masked(model, network, case.example, kept, dropped)
        small = Surgeon(_build(name), network).build(kept, dropped)
        assert costs_of(network, Recipe.of(recipe.ratios, blocks=dropped)) == counted(small, case.example)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.blocks])
def test_results_stand_alone(name: str) -> None:
    case = CASES[name]
    model, network = _build(name), trace(_build(name), case.example)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for dropped in _choices(network):
        small = Surgeon(model, network).build({}, dropped)
        assert type(small) is type(model)
        inside = tuple(f"{block}." for block in dropped)
        own = {**dict(small.named_parameters()), **dict(small.named_buffers())}
        assert own.keys() == {key for key in tensors if not key.startswith(inside)}
        assert counted(small)["params"] == sum(
            p.numel() for key, p in model.named_parameters() if not key.startswith(inside)
        )
        outer = [name for name in dropped if not name.startswith(inside)]
        assert [key for key, module in small.named_modules() if isinstance(module, Skip)] == sorted(
            outer, key=[key for key, _ in model.named_modules()].index
        )
        # torch itself refuses gradients where a layer's input is overwritten
        _check_usable(small, case.example, trains=name != "in-place sum into the argument")


def _check_usable(small: nn.Module, example: Any, trains: bool) -> None:
    """Check that a module can be copied, stored, loaded, trained and exported."""
    expected = outputs(small, example)
    copied, loaded = copy.deepcopy(small), copy.deepcopy(small)
    for value in loaded.parameters():
        value.data.zero_()
    loaded.load_state_dict(small.state_dict(), strict=True)
    args = example if isinstance(example, tuple) else (example,)
    exported = torch.export.export(small, tuple(arg.clone() for arg in args)).module()
    for other in (copied, loaded, exported):
        torch.testing.assert_close(outputs(other, example), expected)
    if trains:
        copied.train()(*(arg.clone() for arg in args)).square().sum().backward()
        assert any(p.grad is not None for p in copied.parameters())


@pytest.mark.parametrize("name", models.MODELS)
def test_built_in_models(name: str) -> None:
    model = models.build(name).eval()
    network = trace(model, torch.zeros(1, *_image_size(name)), verify=False)
    shapes = {block.name: block.reason for block in network.fixed_blocks}
    assert set(shapes.values()) <= {"changes the shape"}
    if name.startswith("resnet"):
        count = sum(1 for key, _ in model.named_modules() if key.count(".") == 1 and key.startswith("layer"))
        assert list(shapes) == ["layer2.0", "layer3.0"]
        assert len(network.blocks) == count - 2
    else:
        assert len(network.blocks) == {"mobilenet_v2": 10, "vit_digits": 8, "vit_tiny": 24}.get(name, 0)


def _image_size(name: str) -> tuple[int, int, int]:
    return (1, 8, 8) if name.endswith("_digits") else (3, 32, 32)


def test_resnet20_in_float64() -> None:
    dense, example = models.build("resnet20"), torch.randn(2, 3, 32, 32)
    model, network = fresh(dense), trace(dense, example)
    assert [block.name for block in network.blocks] == [
        "layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2",
    ]  # fmt: skip
    for seed, dropped in enumerate(_choices(network)):
        assert_dropped_is_masked(model, network, example, _kept(network, seed), dropped)


def test_pickles() -> None:
    name = "argument passed through"
    model, example = _build(name), CASES[name].example
    small = Surgeon(model, trace(model, example)).build({}, ["blocks.1"])
    file = io.BytesIO()
    torch.save(small.blocks, file)
    file.seek(0)
    assert isinstance(torch.load(file, weights_only=False)[1], Skip)


def test_skip_is_built_without_weights() -> None:
    name = "norm last"
    network = trace(_build(name), CASES[name].example)
    with torch.device("meta"):
        skeleton = CASES[name].build()
    kept, dropped = _kept(network), ["1.layers.0", "1.layers.2"]
    empty, small = Surgeon(skeleton, network).build(kept, dropped), Surgeon(_build(name), network).build(kept, dropped)
    empty.load_state_dict(small.state_dict(), strict=True, assign=True)
    torch.testing.assert_close(outputs(empty.eval(), TOKENS), outputs(small, TOKENS))


def test_skip_lends_the_blocks_attributes() -> None:
    skip = Skip(nn.TransformerEncoderLayer(8, 2, batch_first=True).eval(), 0)
    assert (skip.norm_first, skip.self_attn.batch_first, skip.training) == (False, True, False)
    assert not list(skip.parameters())
    assert skip(1, mask=2) == 1
    assert Skip(nn.ReLU(), (None, "mask", 0))(1, mask=2) == (None, 2, 1)


def test_a_false_claim_is_found() -> None:
    """What only seems to be residual: the output is another argument's."""
    model = around(mlp(lambda m, x, y: y + m.f(x)), forward=lambda m, x: m.blocks[0](x, m.g(x)), g=nn.Linear(8, 8))
    network = trace(model, TOKENS, verify=False)
    wrong = replace(network, blocks=(BlockUnit("blocks.0", 0),), fixed_blocks=())
    found = verified(model, wrong, [TOKENS])
    assert found.blocks == ()
    assert found.fixed_blocks == (FixedBlock("blocks.0", "what it returns does not follow what it is given"),)
