"""Encodings: what is read back is what was masked, bit for bit, in exactly the bytes that the costs promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from explorer.pruning.patterns import Mask, gemm_view, pattern_mask, tile_places
from explorer.pruning.sparse.encoding import decode, encode
from spaces import Matrices, Pattern, PruningError
from spaces.gemm import ENCODINGS, best_encoding
from tests.support.random_masks import layers, of, patterns

Weight = tuple[Tensor, int]


def stored_bytes(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def bits_of(tensor: Tensor) -> Tensor:
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(integers[tensor.element_size()])


def check(weight: Tensor, mask: Mask, pattern: Pattern | None, kernel: int) -> str:
    name, tensors = encode(weight, mask, pattern, kernel)
    groups, K, N = weight.shape
    read = decode(name, load(save(tensors)), (groups, K, N), pattern, kernel)
    assert read.dtype == weight.dtype
    assert torch.equal(bits_of(read), bits_of(weight.masked_fill(~mask.keep, 0)))

    kept, size = int(mask.keep.sum()), weight.element_size()
    tiles = None
    if pattern and pattern.granularity in ("tile", "tile_vector"):
        tiles = tile_places((mask.keep if mask.base is None else mask.base).any(1), pattern.width)[1]
    sizes = Matrices(K, groups * N, groups, kernel)
    least, best = best_encoding(pattern or Pattern("element", 1.0), sizes, kept, size, tiles=tiles)
    assert (name, stored_bytes(tensors)) == (best, least)
    return name


@given(layers(most=12), patterns(), st.integers(0, 2**20))
@example((torch.zeros(2, 8, 3), 4), of("tile_vector", width=2, n=2, m=4, ratio=0.3), 0)
def test_what_was_masked_is_read_back(layer: Weight, pattern: Pattern, seed: int) -> None:
    scores, kernel = layer
    mask = pattern_mask(scores, pattern, kernel)
    weight = torch.randn(scores.shape, generator=torch.Generator().manual_seed(seed)).to(scores.dtype)
    check(weight, mask, pattern, kernel)


BEST = {
    "dense": None,
    "bitmap": of("element", ratio=0.5),
    "csr": of("element", ratio=0.01),
    "vector": of("vector", n=1, m=8),
    "kernel": of("kernel", ratio=0.5),
    "block": of("block", height=8, width=8, ratio=0.5),
    "tile": of("tile", width=16, ratio=0.5),
    "tile_vector": of("tile_vector", width=16, n=1, m=4, ratio=0.1),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ENCODINGS)
def test_each_encoding_is_the_smallest_somewhere(name: str, dtype: torch.dtype) -> None:
    pattern = BEST[name]
    generator = torch.Generator().manual_seed(0)
    # neither side is a multiple of a block, of a tile or of m
    weight = gemm_view(torch.randn(70, 30, 3, 3, generator=generator).to(dtype), "conv")
    mask = pattern_mask(weight.abs(), pattern, 9) if pattern else Mask(torch.ones_like(weight, dtype=torch.bool))
    assert check(weight, mask, pattern, 9) == name


@pytest.mark.parametrize("rows", [1 << 16, (1 << 16) + 1])
def test_rows_of_csr_are_wide_where_they_must_be(rows: int) -> None:
    weight = torch.randn(1, rows, 2)
    weight[0, rows - 1, :] = 9
    pattern = of("element", ratio=0.01)
    assert check(weight, pattern_mask(weight.abs(), pattern), pattern, 1) == "csr"


def test_kept_zeros_and_dropped_infinities_are_what_they_were() -> None:
    weight = torch.tensor([[[-0.0, torch.inf], [1.0, torch.nan]]])
    check(weight, Mask(torch.tensor([[[True, False], [True, False]]])), None, 1)


def test_a_weight_that_is_nearly_whole_stays_dense() -> None:
    pattern, weight = of("element", ratio=0.99), torch.randn(1, 20, 10).half()
    assert check(weight, pattern_mask(weight.abs(), pattern), pattern, 1) == "dense"


def test_a_mask_of_any_kind_has_an_encoding() -> None:
    weight = torch.randn(1, 64, 64)
    assert check(weight, Mask(weight > 0), None, 1) == "bitmap"
    assert check(weight, Mask(weight > 2.5), None, 1) == "csr"


def damaged(tensors: dict[str, Tensor], key: str) -> list[dict[str, Tensor]]:
    without = {k: v for k, v in tensors.items() if k != key}
    return [without, without | {key: tensors[key][:-1]}]


@pytest.mark.parametrize("name", ENCODINGS)
def test_damaged_tensors_are_refused(name: str) -> None:
    pattern = BEST[name]
    weight = torch.randn(1, 96, 80, generator=torch.Generator().manual_seed(0))
    mask = pattern_mask(weight.abs(), pattern, 4) if pattern else Mask(torch.ones_like(weight, dtype=torch.bool))
    found, tensors = encode(weight, mask, pattern, 4)
    assert found == name
    for key in tensors:
        for broken in damaged(tensors, key):
            with pytest.raises(PruningError, match=f"encoding: no weight of .1, 96, 80. in '{name}'"):
                decode(name, broken, (1, 96, 80), pattern, 4)


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(PruningError, match="encoding"):
        decode("zip", {}, (1, 2, 2), None)
