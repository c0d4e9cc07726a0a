"""Executed layers: every form computes what the masked dense layer does, and what stays dense is said."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import explorer.pruning.sparse.execution as execution
import explorer.pruning.sparse.narrow as narrow
from explorer import models
from explorer.pruning.patterns import Mask, gemm_view, pattern_mask, weight_view
from explorer.pruning.sparse import execute
from explorer.pruning.sparse.conv import Lowered
from explorer.pruning.sparse.forms import forms
from explorer.pruning.sparse.matrix import Form, transposed
from explorer.pruning.sparse.narrow import Narrow
from explorer.pruning.sparse.products import Csr, Tiles
from explorer.utils.timing import Timing
from spaces import Pattern, PruningError

Layer = nn.Linear | nn.Conv2d

PATTERNS = {
    name: Pattern.of({"granularity": name, **options})
    for name, options in {
        "element": {"ratio": 0.3},
        "vector": {"n": 2, "m": 4},
        "kernel": {"ratio": 0.3},
        "block": {"height": 4, "width": 3, "ratio": 0.3},
        "tile": {"width": 3, "ratio": 0.3},
        "tile_element": {"width": 3, "ratio": 0.3, "delta": 0.1},
        "tile_vector": {"width": 3, "n": 2, "m": 4, "ratio": 0.3},
    }.items()
}
LAYERS: dict[str, tuple[partial[Layer], tuple[int, ...]]] = {
    "linear": (partial(nn.Linear, 20, 14), (20,)),
    "linear of three dimensions": (partial(nn.Linear, 20, 14), (5, 20)),
    "linear, no bias": (partial(nn.Linear, 20, 14, bias=False), (20,)),
    "3x3": (partial(nn.Conv2d, 6, 8, 3), (6, 9, 7)),
    "3x3, padding": (partial(nn.Conv2d, 6, 8, 3, padding=1), (6, 9, 7)),
    "3x3, no bias": (partial(nn.Conv2d, 6, 8, 3, padding=1, bias=False), (6, 9, 7)),
    "3x3, much padding": (partial(nn.Conv2d, 6, 8, 3, padding=(4, 3)), (6, 5, 4)),
    "3x3, stride 2": (partial(nn.Conv2d, 6, 8, 3, stride=2, padding=1), (6, 9, 8)),
    "3x3, strides 3 and 1": (partial(nn.Conv2d, 6, 8, 3, stride=(3, 1)), (6, 11, 6)),
    "3x3, dilation": (partial(nn.Conv2d, 6, 8, 3, padding=2, dilation=2), (6, 8, 9)),
    "3x3, all": (partial(nn.Conv2d, 6, 8, 3, stride=2, padding=(2, 1), dilation=(1, 2), groups=2), (6, 9, 10)),
    "5x2, same": (partial(nn.Conv2d, 6, 8, (5, 2), padding="same", dilation=(1, 3)), (6, 9, 7)),
    "3x3, on less than the kernel": (partial(nn.Conv2d, 6, 8, 3, padding=1), (6, 1, 2)),
    "patches": (partial(nn.Conv2d, 3, 8, 4, stride=4), (3, 13, 12)),
    "1x1": (partial(nn.Conv2d, 6, 8, 1), (6, 5, 6)),
    "1x1, stride 2": (partial(nn.Conv2d, 6, 8, 1, stride=2), (6, 5, 6)),
    "1x1, padding": (partial(nn.Conv2d, 6, 8, 1, padding=1), (6, 5, 6)),
    "1x1, groups": (partial(nn.Conv2d, 6, 8, 1, groups=2), (6, 5, 6)),
    "groups": (partial(nn.Conv2d, 6, 8, 3, padding=1, groups=2), (6, 5, 6)),
    "depthwise": (partial(nn.Conv2d, 6, 6, 3, padding=1, groups=6), (6, 5, 6)),
    "depthwise, stride 2": (partial(nn.Conv2d, 6, 12, 3, stride=2, padding=1, groups=6, bias=False), (6, 5, 6)),
}


def masked(layer: Layer, pattern: Pattern, seed: int = 0) -> Mask:
    """Put a pattern on a layer's weight by random scores, and return its mask."""
    kind, groups = ("linear", 1) if isinstance(layer, nn.Linear) else ("conv", layer.groups)
    kernel = layer.weight[0, 0].numel()
    gemm = gemm_view(layer.weight.detach(), kind, groups)
    mask = pattern_mask(torch.rand(gemm.shape, generator=torch.Generator().manual_seed(seed)), pattern, kernel)
    with torch.no_grad():
        layer.weight.mul_(weight_view(mask.keep, layer.weight.shape, kind, groups))
    return mask


def built(layer: Layer, pattern: Pattern, mask: Mask) -> dict[str, Form]:
    """Return all forms that can be built; torch has BSR for square blocks only."""
    return {name: build() for name, build in forms(layer, pattern, mask).items() if name != "BSR"}


def assert_equal(got: Tensor, wanted: Tensor) -> None:
    allowed = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 3e-2}[wanted.dtype]
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    assert not wanted.numel() or bool((got - wanted).abs().max() <= allowed * wanted.abs().max())


@pytest.mark.parametrize("granularity", PATTERNS)
@pytest.mark.parametrize("name", LAYERS)
def test_every_form_gives_the_outputs_of_the_masked_dense_layer(name: str, granularity: str) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = make().double()
    pattern = PATTERNS[granularity]
    mask = masked(layer, pattern)
    for batch in (1, 3):
        x = torch.randn(batch, *shape, dtype=torch.float64)
        layouts = [x] if x.dim() < 4 else [x, x.contiguous(memory_format=torch.channels_last)]
        for given_ in layouts:
            for dtype in (torch.float64, torch.float32):
                dense, inputs = copy.deepcopy(layer).to(dtype), given_.to(dtype)
                # one form for all shapes: what it remembers of one must not change another
                for form in built(dense, pattern, mask).values():
                    for part in (inputs, inputs[:1], inputs, inputs[:0]):
                        assert_equal(form(part), dense(part))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_convolution_in_any_bands(data: st.DataObject) -> None:
    """Images are taken one or several at a time, in bands of rows: positions at a time are cut down to get there."""
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride, dilation = (draw(st.tuples(st.integers(1, 3), st.integers(1, 2))) for _ in range(2))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    groups = draw(st.sampled_from([1, 2]))
    least = [max(1, d * (k - 1) + 1 - 2 * p) for k, d, p in zip(kernel, dilation, padding, strict=True)]
    size = [low + draw(st.integers(0, 7)) for low in least]
    torch.manual_seed(draw(st.integers(0, 99)))
    conv = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups).double()
    pattern = PATTERNS[draw(st.sampled_from(["tile", "tile_element", "block", "element"]))]
    mask = masked(conv, pattern)
    x = torch.randn(draw(st.integers(1, 5)), 4, *size, dtype=torch.float64)
    if draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    with pytest.MonkeyPatch.context() as patch:
        for product in (Tiles, Csr):
            patch.setattr(product, "positions", draw(st.integers(1, 120)))
        for form in built(conv, pattern, mask).values():
            y = form(x)
            assert_equal(y, conv(x))
            if isinstance(form, Lowered):
                assert y.is_contiguous(memory_format=torch.channels_last) or y.is_contiguous()
                assert y.is_contiguous() or not x.is_contiguous()


@given(st.integers(0, 40), st.integers(1, 40))
def test_a_matrix_is_transposed(m: int, n: int) -> None:
    x = torch.arange(m * n).view(m, n).double()
    assert torch.equal(transposed(x), x.t())
    assert transposed(x).is_contiguous()


@pytest.mark.parametrize("granularity", ["element", "tile"])
@pytest.mark.parametrize("name", ["linear", "3x3, padding"])
def test_half_precision_and_moving_a_form(name: str, granularity: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    mask = masked(layer, PATTERNS[granularity])
    x = torch.randn(3, *shape)
    for form in built(layer, PATTERNS[granularity], mask).values():
        assert_equal(copy.deepcopy(form)(x), layer(x))
        for dtype in (torch.bfloat16, torch.float64):
            dense = copy.deepcopy(layer).to(dtype)
            assert_equal(copy.deepcopy(form).to(dtype)(x.to(dtype)), dense(x.to(dtype)))


def test_torchs_block_sparse_matrices_give_the_outputs() -> None:
    layer = nn.Linear(64, 96)
    pattern = Pattern.of({"granularity": "block", "height": 16, "width": 16, "ratio": 0.3})
    mask = masked(layer, pattern)
    form = forms(layer, pattern, mask)["BSR"]()
    for shape in [(64,), (5, 64), (2, 3, 64)]:
        x = torch.randn(shape)
        assert_equal(form(x), layer(x))
    odd = Pattern.of({"granularity": "block", "height": 16, "width": 36, "ratio": 0.3})
    assert "BSR" not in forms(layer, odd, masked(layer, odd))


def test_sparse_tensor_cores_are_for_gpus() -> None:
    layer = nn.Linear(64, 64).bfloat16()
    pattern = PATTERNS["vector"]
    assert list(forms(layer, pattern, masked(layer, pattern))) == ["CSR"]


def test_a_block_of_a_group_that_keeps_nothing_is_no_tile() -> None:
    conv = nn.Conv2d(4, 6, 3, groups=2).double()
    keep = torch.zeros(2, 18, 3, dtype=torch.bool)
    keep[0, 3:7, 1] = True
    with torch.no_grad():
        conv.weight.mul_(weight_view(keep, conv.weight.shape, "conv", 2))
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    for granularity in ("tile", "block", "element"):
        for form in built(conv, PATTERNS[granularity], Mask(keep)).values():
            assert_equal(form(x), conv(x))


# whole models


def resnet(granularity: str, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, dict[str, tuple[Pattern, Mask]]]:
    torch.manual_seed(0)
    model = models.build("resnet_digits", in_channels=1).to(dtype).eval()
    masks = {}
    for number, (name, layer) in enumerate(model.named_modules()):
        if isinstance(layer, Layer) and layer.weight.shape[1] > 1:
            masks[name] = PATTERNS[granularity], masked(layer, PATTERNS[granularity], seed=number)
    return model, masks


@pytest.mark.parametrize("granularity", PATTERNS)
def test_a_whole_network_gives_its_outputs_and_stays_as_it_was(granularity: str) -> None:
    model, masks = resnet(granularity)
    before = copy.deepcopy(model.state_dict())
    executed = execute(model, masks)
    assert set(executed.layers) == set(masks)
    assert not executed.notes
    x = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        with torch.inference_mode():
            assert_equal(executed.module(x.contiguous(memory_format=layout)), model(x))
    assert not any(isinstance(module, Form) for module in model.modules())
    # the same tensors under the same names
    after = executed.module.state_dict()
    assert list(after) == list(before)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert after[name].data_ptr() == tensor.data_ptr()


def clocked(monkeypatch: pytest.MonkeyPatch, dense: float) -> list[int]:
    """Let every form take 1 ms and dense layers `dense` ms; return where calls are counted."""
    calls: list[int] = []

    def interleaved(contestants: list[Any], **options: Any) -> list[Timing]:
        calls.append(len(contestants))
        for contestant in contestants:
            contestant()
        return [Timing((time,)) for time in [dense] + [1.0] * (len(contestants) - 1)]

    monkeypatch.setattr(execution, "interleaved", interleaved)
    return calls


def test_the_faster_of_form_and_dense_layer_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, masks = resnet("element")
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    clocked(monkeypatch, dense=2)
    fast = execute(model, masks, x)
    assert fast.layers == dict.fromkeys(masks, "CSR")
    assert not fast.notes
    clocked(monkeypatch, dense=0.5)
    slow = execute(model, masks, x)
    assert not slow.layers
    assert [str(note) for note in slow.notes] == [
        f"{name}: the dense kernel is faster: 0.5 ms, CSR 1 ms" for name in masks
    ]
    with torch.inference_mode():
        assert_equal(fast.module(x), model(x))
        assert torch.equal(slow.module(x), model(x))


def test_what_is_known_is_not_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model, masks = resnet("tile")
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    known: dict[Any, tuple[str, str]] = {}
    calls = clocked(monkeypatch, dense=2)
    first = execute(model, masks, x, known=known)
    # layers of one kind on inputs of one shape are timed once
    once = len(calls)
    assert once == len(known) < len(masks)
    again = execute(model, masks, x, known=known)
    assert len(calls) == once
    assert again.layers == first.layers
    execute(model, masks, x[:1], known=known)
    assert len(calls) == len(known) == 2 * once
    slow: dict[Any, tuple[str, str]] = {}
    calls = clocked(monkeypatch, dense=0.5)
    dense = execute(model, masks, x, known=slow)
    assert execute(model, masks, x, known=slow).notes == dense.notes
    assert len(calls) == len(slow)


def test_a_known_form_that_a_mask_does_not_have_is_chosen_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    tile = PATTERNS["tile"]
    x = torch.randn(2, 4, 5, 5)
    known: dict[Any, tuple[str, str]] = {}
    clocked(monkeypatch, dense=2)
    chosen = []
    for keep in (torch.eye(4, dtype=torch.bool).repeat(9, 1)[None], torch.ones(1, 36, 4, dtype=torch.bool)):
        keep[0, :, 0] = keep[0, 0, 1]
        conv = nn.Conv2d(4, 4, 3)
        with torch.no_grad():
            conv.weight.mul_(weight_view(keep, conv.weight.shape, "conv"))
        chosen.append(execute(nn.Sequential(conv), {"0": (tile, Mask(keep))}, x, known=known).layers["0"])
    assert chosen == ["narrow", "tiles"]
    assert len(known) == 1


def test_a_form_with_other_outputs_or_an_error_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, masks = resnet("element")
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    clocked(monkeypatch, dense=2)
    right = Lowered.forward
    monkeypatch.setattr(Lowered, "forward", lambda self, input: right(self, input) + 1e-6)
    executed = execute(model, masks, x)
    assert {note.reason for note in executed.notes} == {"CSR: its outputs are not those of the dense layer"}
    assert list(executed.layers) == ["linear"]
    monkeypatch.setattr(Lowered, "__init__", lambda *args: 1 / 0)
    for example in (x, None):
        executed = execute(model, masks, example)
        assert {note.reason for note in executed.notes} == {"CSR: division by zero"}
        assert list(executed.layers) == ["linear"]


def test_channels_without_weights_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_PIXELS", 50)
    for options in ({}, {"bias": False}, {"stride": 2, "padding": 1}, {"padding": "same", "dilation": 2}):
        conv = nn.Conv2d(5, 7, 3, **options).double()
        with torch.no_grad():
            conv.weight[[0, 4, 6]] = 0
            conv.weight[:, 2] = 0
        x = torch.randn(3, 5, 9, 8, dtype=torch.float64)
        form = Narrow(conv)
        assert form.filters.shape == (4, 4, 3, 3)
        assert_equal(form(x), conv(x))
        last = x.contiguous(memory_format=torch.channels_last)
        assert_equal(form(last), conv(last))
        assert form(last).is_contiguous(memory_format=torch.channels_last)
    tile = PATTERNS["tile"]
    assert "narrow" in forms(conv, tile, masked(conv, tile))
    grouped = nn.Conv2d(6, 8, 3, groups=2)
    assert "narrow" not in forms(grouped, tile, masked(grouped, tile))
    assert "narrow" not in forms(nn.Conv2d(2, 2, 3), tile, Mask(torch.ones(1, 18, 2, dtype=torch.bool)))


class Odd(nn.Module):
    """Layers that have no form, each for a reason of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.reflect = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
        self.hooked = nn.Conv2d(4, 4, 3, padding=1)
        self.hooked.register_forward_hook(lambda module, args, out: out + 1)
        self.transposed = nn.ConvTranspose2d(4, 4, 3)
        self.attention = nn.MultiheadAttention(4, 2)
        self.idle = nn.Linear(4, 4)
        self.plain = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.transposed(self.hooked(self.reflect(self.plain(input=x))))
        tokens = y.flatten(2).permute(2, 0, 1)
        return self.attention(tokens, tokens, tokens)[0]


def test_every_layer_that_stays_dense_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, dense=2)
    model = Odd().eval()
    tile = PATTERNS["tile"]
    mask = Mask(torch.ones(1, 4, 4, dtype=torch.bool))
    masks = {name: (tile, masked(getattr(model, name), tile)) for name in ("reflect", "hooked", "idle", "plain")}
    for name in ("transposed", "attention.in_proj_weight", "attention.out_proj"):
        masks[name] = tile, mask
    x = torch.randn(2, 4, 5, 5)
    executed = execute(model, masks, x)
    assert {note.layer: note.reason for note in executed.notes} == {
        "reflect": "padding_mode is 'reflect', executed is 'zeros' only",
        "hooked": "it has hooks",
        "idle": "a forward pass of the example does not run it",
        "transposed": "ConvTranspose2d is neither nn.Linear nor nn.Conv2d",
        "attention.in_proj_weight": "its weight is no layer's",
        "attention.out_proj": "NonDynamicallyQuantizableLinear is neither nn.Linear nor nn.Conv2d",
    }
    assert set(executed.layers) == {"plain"}
    with torch.inference_mode():
        assert_equal(executed.module(x), model(x))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"layer9": Mask(torch.ones(1, 4, 4))}, "masks: 'layer9' is unknown, did you mean 'plain'?|masks: 'layer9' is"),
        ({"plane": Mask(torch.ones(1, 4, 4))}, "masks: 'plane' is unknown, did you mean 'plain'"),
        ({"plain": Mask(torch.ones(1, 3, 4))}, r"masks.plain: a mask of shape \[1, 3, 4\], .* are \[1, 4, 4\]"),
    ],
)
def test_mistakes_are_one_line(masks: dict[str, Mask], message: str) -> None:
    with pytest.raises(PruningError, match=message) as caught:
        execute(Odd().eval(), {name: (PATTERNS["tile"], mask) for name, mask in masks.items()})
    assert "\n" not in str(caught.value)


def test_real_timings_choose_one_of_the_two() -> None:
    model, masks = resnet("tile", torch.float32)
    x = torch.randn(2, 1, 8, 8)
    executed = execute(model, masks, x)
    assert set(executed.layers) | {note.layer for note in executed.notes} == set(masks)
    assert not set(executed.layers) & {note.layer for note in executed.notes}
    with torch.inference_mode():
        assert_equal(executed.module(x), model(x))
