"""Random layers and patterns, as strategies."""

from __future__ import annotations

import torch
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor

from spaces.granularity import GROUPS, PATTERNS, Pattern

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
ratios = st.integers(1, 99).map(lambda percent: percent / 100) | st.floats(0.002, 0.998).map(lambda r: round(r, 4))


@st.composite
def layers(draw: st.DrawFn, most: int = 6) -> tuple[Tensor, int]:
    """Scores ``[G, K, N]`` and the kernel's positions; often full of ties, in both memory orders."""
    groups, kernel = draw(st.sampled_from([1, 1, 2, 3])), draw(st.sampled_from([1, 1, 2, 4, 9]))
    shape = (groups, kernel * draw(st.integers(1, most)), draw(st.integers(1, most + 2)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    values = draw(st.sampled_from([1, 2, 4, 1000]))
    scores = torch.randint(values, shape, generator=generator).to(draw(st.sampled_from(DTYPES)))
    if draw(st.booleans()):
        scores = torch.rand(shape, generator=generator, dtype=torch.float64).to(scores.dtype)
    return (scores if draw(st.booleans()) else scores.transpose(1, 2).contiguous().transpose(1, 2)), kernel


@st.composite
def patterns(draw: st.DrawFn, among: tuple[str, ...] = PATTERNS) -> Pattern:
    name, ratio = draw(st.sampled_from(among)), draw(ratios)
    size, m = st.integers(1, 7), draw(st.sampled_from([1, 2, 3, 4, 5, 8, 20]))
    n = draw(st.integers(1, m))
    if name == "tile_vector":
        assume(ratio <= n / m)
    given: dict[str, dict[str, object]] = {
        "element": {"per": draw(st.sampled_from(GROUPS))},
        "vector": {"n": n, "m": m},
        "block": {"height": draw(size), "width": draw(size)},
        "tile": {"width": draw(size)},
        "tile_element": {"width": draw(size), "delta": round(draw(st.floats(0.1, 0.9)) * ratio, 4) or 1e-3},
        "tile_vector": {"width": draw(size), "n": n, "m": m},
    }
    config = {"granularity": name, **given.get(name, {})}
    return Pattern.of(config if name == "vector" else config | {"ratio": ratio})


def of(granularity: str, **parameters: object) -> Pattern:
    return Pattern.of({"granularity": granularity, **parameters})
