"""Masked layers executed as what they are, over dense ones: every granularity, with its ideal beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explorer.bench.measured import Measured
from explorer.pruning.patterns import Mask, gemm_view, pattern_mask, weight_view
from explorer.pruning.sparse.forms import forms
from explorer.pruning.sparse.matrix import Layer
from explorer.utils.timing import interleaved
from spaces import Pattern, PruningError

__all__ = ["LAYERS", "sparse"]

# tiles at ratio .25, over dense
_RATIO = 0.25
_TARGETS: Mapping[type, float] = {nn.Linear: 2.7, nn.Conv2d: 2.0}
# of the greatest output: what float32 sums in another order differ by
_ROUNDING = 1e-4


@dataclass(frozen=True)
class _Shape:
    """A linear layer, or for images of so many pixels a 3x3 convolution."""

    inputs: int
    outputs: int
    pixels: int = 0

    def layer(self, outputs: int) -> Layer:
        if not self.pixels:
            return nn.Linear(self.inputs, outputs, bias=False)
        conv = nn.Conv2d(self.inputs, outputs, 3, padding=1, bias=False)
        return conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def input(self, options: Mapping[str, Any]) -> Tensor:
        if not self.pixels:
            return torch.randn(options["tokens"], self.inputs)
        return torch.randn(options["images"], self.inputs, self.pixels, self.pixels)


LAYERS: Mapping[str, _Shape] = {
    "bert_up": _Shape(768, 3072),
    "bert_down": _Shape(3072, 768),
    "conv56": _Shape(64, 64, 56),
    "conv28": _Shape(128, 128, 28),
    "conv14": _Shape(256, 256, 14),
    "conv7": _Shape(512, 512, 7),
}
"""The feed-forward layers of BERT-base, and the 3x3 convolutions of ResNet-50 by the pixels of their images."""


@dataclass(frozen=True)
class _Contest:
    """Two functions of no arguments; `same` says whether their outputs should be."""

    case: str
    ratio: float
    ours: Callable[[], Tensor]
    dense: Callable[[], Tensor]
    target: float | None = None
    same: bool = True


def sparse(config: dict[str, Any]) -> list[Measured]:
    """Return how much faster than the dense layer every form of every granularity is, by layer and ratio kept.

    Weights and scores are random, so that what is kept lies evenly spread. A convolution's dense kernel gets images
    with channels last, executed forms with channels first: each is fastest so. Tiles are measured with channels last
    too. Filters are dense layers of fewer output channels. The last figure counts the forms whose outputs are the
    dense layer's.
    """
    torch.manual_seed(config["seed"])
    figures, equal = [], []
    with torch.inference_mode():
        for contest in _contests(config["sparse"]):
            if contest.same:
                ours, theirs = contest.ours(), contest.dense()
                equal.append(bool((ours - theirs).abs().max() <= _ROUNDING * theirs.abs().max()))
            timings = interleaved([contest.ours, contest.dense], runs=config["repeats"], seconds=config["seconds"])
            figures.append(
                Measured(
                    f"{contest.case}: times faster",
                    f"dense, ideal {1 / contest.ratio:.3g} x",
                    timings[1].median / timings[0].median,
                    at_least=contest.target,
                    ours=timings[0],
                    theirs=timings[1],
                )
            )
    what = f"equal outputs to {_ROUNDING:g} of the greatest"
    return [*figures, Measured(what, "dense", sum(equal), unit=f"of {len(equal)}", at_least=len(equal))]


def _contests(options: Mapping[str, Any]) -> Iterator[_Contest]:
    for name in options["layers"]:
        shape = LAYERS[name]
        x = shape.input(options)
        last = x.contiguous(memory_format=torch.channels_last) if shape.pixels else x
        for ratio in options["ratios"]:
            dense, small = shape.layer(shape.outputs), shape.layer(max(1, round(ratio * shape.outputs)))
            yield _Contest(f"{name}, filter {ratio:g}", ratio, partial(small, last), partial(dense, last), same=False)
            for pattern in _patterns(ratio, shape):
                layer = shape.layer(shape.outputs)
                mask = _masked(layer, pattern)
                for form, build in forms(layer, pattern, mask).items():
                    aimed = (pattern.granularity, ratio, form) == ("tile", _RATIO, "tiles")
                    target = _TARGETS[type(layer)] if aimed else None
                    module, case, rival = build(), f"{name}, {pattern} as {form}", partial(layer, last)
                    yield _Contest(case, ratio, partial(module, x), rival, target)
                    if shape.pixels and pattern.granularity == "tile":
                        yield _Contest(f"{case}, channels last", ratio, partial(module, last), rival)


def _patterns(ratio: float, shape: _Shape) -> Iterator[Pattern]:
    """Yield every granularity at a ratio, where it has it and is none of the others."""
    for granularity in ("tile", "tile_vector", "tile_element", "block", "vector", "kernel", "element"):
        options: dict[str, Any] = {"ratio": ratio}
        if granularity == "vector":
            options = {"n": round(4 * ratio), "m": 4}
        elif granularity == "kernel" and not shape.pixels:
            continue
        try:
            pattern = Pattern.of({"granularity": granularity, **options})
        except PruningError:
            continue
        # tiles that keep all but what vectors remove are vectors
        if pattern.ratio == ratio and (granularity != "tile_vector" or ratio < 0.5):
            yield pattern


def _masked(layer: Layer, pattern: Pattern) -> Mask:
    """Put a pattern on a layer's weight by random scores."""
    kind, kernel = ("linear", 1) if isinstance(layer, nn.Linear) else ("conv", 9)
    weight = layer.weight.detach()
    mask = pattern_mask(torch.rand_like(gemm_view(weight, kind)), pattern, kernel)
    weight.mul_(weight_view(mask.keep, weight.shape, kind))
    return mask
