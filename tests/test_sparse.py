"""Executed layers: every form computes what the masked dense layer does, and what stays dense is said."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import explorer.sparse.execution as execution
from explorer import models
from explorer.masks import Mask, gemm_view, pattern_mask, weight_view
from explorer.sparse import execute
from explorer.sparse.conv import Lowered
from explorer.sparse.forms import forms
from explorer.sparse.matrix import Form, transposed
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
    assert float((got - wanted).abs().max()) <= allowed * float(wanted.abs().max())


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
                    for part in (inputs, inputs[:1], inputs):
                        assert_equal(form(part), dense(part))
