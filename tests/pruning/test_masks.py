"""Masks: the fast ones are those of the definitions, written plainly, and have the properties these imply."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from torch import Tensor
from torch.nn import functional as F

from explorer.pruning.patterns import gemm_view, pattern_mask, tiles, weight_view
from spaces import PruningError
from spaces.granularity import Pattern, kept_steps
from tests.support.random_masks import layers, of, patterns, ratios

Entry = tuple[int, int, int]

# --- the definitions, entry by entry -------------------------------------------------------------------------------


def ordered(units: list[list[Entry]], scores: Tensor) -> list[int]:
    """Return the numbers of the units by L2 / sqrt(size), greatest first; its square is exact as a fraction."""
    values = [sum(Fraction(scores[entry].item()) ** 2 for entry in unit) / len(unit) for unit in units]
    return sorted(range(len(units)), key=lambda i: (-values[i], i))


def filled(units: list[list[Entry]], scores: Tensor, always: set[int], target: Fraction) -> set[int]:
    chosen, total = set(always), sum(len(units[i]) for i in always)
    for i in ordered(units, scores):
        if i in always:
            continue
        if abs(total + len(units[i]) - target) > abs(total - target):
            break
        chosen.add(i)
        total += len(units[i])
    return chosen


def vectors(rows: list[int], m: int) -> list[list[int]]:
    return [rows[i : i + m] for i in range(0, len(rows), m)]


def slow_vector(scores: Tensor, group: int, column: int, rows: list[int], n: int, m: int) -> list[Entry]:
    kept = []
    for vector in vectors(rows, m):
        best = sorted(vector, key=lambda k: (-scores[group, k, column].item(), k))
        kept += [(group, k, column) for k in best[: math.ceil(Fraction(n * len(vector), m))]]
    return kept


def slow_tiles(scores: Tensor, share: Fraction, width: int) -> list[tuple[int, list[int], list[int]]]:
    """Return group, rows and columns of every tile."""
    groups, K, N = scores.shape
    lines = [[(g, k, n) for k in range(K)] for g in range(groups) for n in range(N)]
    count = next(c for c in itertools.count(1) if Fraction(c, len(lines)) ** 2 >= share)
    alive = sorted(ordered(lines, scores)[:count])
    chunks = []
    for g in range(groups):
        columns = [i - g * N for i in alive if i // N == g]
        chunks += [(g, columns[i : i + width]) for i in range(0, len(columns), width)]
    units = [[(g, k, n) for n in columns] for g, columns in chunks for k in range(K)]
    best = {ordered(units[t * K : (t + 1) * K], scores)[0] + t * K for t in range(len(chunks))}
    chosen = filled(units, scores, best, share * scores.numel())
    return [(g, [k for k in range(K) if t * K + k in chosen], columns) for t, (g, columns) in enumerate(chunks)]


def slow_mask(scores: Tensor, pattern: Pattern, kernel: int) -> tuple[Tensor, Tensor | None]:
    groups, K, N = scores.shape
    ratio, size = Fraction(str(pattern.ratio)), scores.numel()
    every = [[(g, k, n)] for g in range(groups) for k in range(K) for n in range(N)]
    base: list[Entry] | None = None
    match pattern.granularity:
        case "element" if pattern.per == "output":
            lines = [[[(g, k, n)] for k in range(K)] for g in range(groups) for n in range(N)]
            kept = [line[i][0] for line in lines for i in ordered(line, scores)[: kept_steps(pattern.ratio, K)]]
        case "element":
            kept = [every[i][0] for i in ordered(every, scores)[: kept_steps(pattern.ratio, size)]]
        case "vector":
            lines = itertools.product(range(groups), range(N))
            kept = [e for g, n in lines for e in slow_vector(scores, g, n, list(range(K)), pattern.n, pattern.m)]
        case "kernel":
            inputs = K // kernel
            places = itertools.product(range(groups), range(inputs), range(N))
            units = [[(g, p * inputs + c, n) for p in range(kernel)] for g, c, n in places]
            kept = [e for i in ordered(units, scores)[: kept_steps(pattern.ratio, len(units))] for e in units[i]]
        case "block":
            high, wide = vectors(list(range(K)), pattern.height), vectors(list(range(N)), pattern.width)
            units = [[(g, k, n) for k in ks for n in ns] for g in range(groups) for ks in high for ns in wide]
            chosen = filled(units, scores, set(), ratio * size) or {ordered(units, scores)[0]}
            kept = [e for i in chosen for e in units[i]]
        case "tile" | "tile_element" | "tile_vector":
            share = {
                "tile": lambda: ratio,
                "tile_element": lambda: ratio - Fraction(str(pattern.delta)),
                "tile_vector": lambda: ratio * pattern.m / pattern.n,
            }[pattern.granularity]()
            found = slow_tiles(scores, share, pattern.width)
            kept = [(g, k, n) for g, rows, columns in found for k in rows for n in columns]
            if pattern.granularity != "tile":
                base = list(kept)
            if pattern.granularity == "tile_element":
                gone = [unit for unit in every if unit[0] not in set(kept)]
                missing = max(0, kept_steps(pattern.ratio, size) - len(kept))
                kept += [gone[i][0] for i in ordered(gone, scores)[:missing]]
            if pattern.granularity == "tile_vector":
                kept = [
                    e
                    for g, rows, columns in found
                    for n in columns
                    for e in slow_vector(scores, g, n, rows, pattern.n, pattern.m)
                ]
    return painted(kept, scores), None if base is None else painted(base, scores)


def painted(entries: list[Entry], scores: Tensor) -> Tensor:
    keep = torch.zeros(scores.shape, dtype=torch.bool)
    for entry in entries:
        keep[entry] = True
    return keep


# --- the fast ones are the slow ones -------------------------------------------------------------------------------


@given(layers(), patterns())
@example((torch.ones(1, 7, 7), 1), of("block", height=4, width=3, ratio=0.5))
@example((torch.full((1, 7, 7), 0.1), 1), of("block", height=4, width=3, ratio=0.5))
@example((torch.full((1, 5, 10), 0.1), 1), of("tile", width=4, ratio=0.81))
@example((torch.zeros(2, 8, 3), 4), of("tile_vector", width=2, n=2, m=4, ratio=0.3))
def test_masks_are_those_of_the_definitions(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    mask = pattern_mask(scores, pattern, kernel)
    keep, base = slow_mask(scores, pattern, kernel)
    assert torch.equal(mask.keep, keep)
    assert (mask.base is None) == (base is None)
    assert base is None or torch.equal(mask.base, base)


def test_masks_of_a_large_layer_do_not_depend_on_how_it_is_computed() -> None:
    scores = gemm_view(torch.randn(96, 64, 3, 3, generator=torch.Generator().manual_seed(0)).abs(), "conv")
    threads = torch.get_num_threads()
    for name, more in [("block", {"height": 5, "width": 7}), ("tile", {"width": 7}), ("kernel", {}), ("element", {})]:
        pattern = of(name, ratio=0.35, **more)
        masks = []
        for count, values in [(1, scores), (4, scores), (1, scores.double()), (4, scores.contiguous())]:
            torch.set_num_threads(count)
            masks.append(pattern_mask(values, pattern, 9).keep)
        torch.set_num_threads(threads)
        assert all(torch.equal(masks[0], other) for other in masks[1:]), name


# --- properties ----------------------------------------------------------------------------------------------------


@given(layers(), patterns(("element", "kernel")))
def test_counts_are_exact(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    size = kernel if pattern.granularity == "kernel" else 1
    keep = pattern_mask(scores, pattern, kernel).keep
    if pattern.per == "output":
        assert (keep.sum(1) == kept_steps(pattern.ratio, scores.shape[1])).all()
    else:
        assert int(keep.sum()) == size * kept_steps(pattern.ratio, scores.numel() // size)


@given(layers(), patterns(("kernel",)))
def test_kernels_are_kept_whole(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    kernels = pattern_mask(scores, pattern, kernel).keep.unflatten(1, (kernel, -1))
    assert torch.equal(kernels.all(1), kernels.any(1))


@given(layers(), patterns(("vector",)))
def test_n_of_every_m_are_kept_and_tails_round_up(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    for chunk in pattern_mask(scores, pattern, kernel).keep.split(pattern.m, dim=1):
        assert (chunk.sum(1) == math.ceil(Fraction(pattern.n * chunk.shape[1], pattern.m))).all()


@given(layers(), patterns(("block",)))
def test_blocks_are_kept_whole_and_at_least_one(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    keep = pattern_mask(scores, pattern, kernel).keep
    for rows in keep.split(pattern.height, dim=1):
        for block in rows.split(pattern.width, dim=2):
            assert torch.equal(block.all(2).all(1), block.any(2).any(1))
    assert keep.any()


@given(layers(), patterns(("tile", "tile_element", "tile_vector")))
def test_tiles_are_dense_rectangles_of_surviving_columns(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    mask = pattern_mask(scores, pattern, kernel)
    for tile_mask in mask.keep if mask.base is None else mask.base:
        seen, found = torch.zeros_like(tile_mask), tiles(tile_mask, pattern.width)
        for rows, columns in found:
            assert len(rows)
            seen[rows[:, None], columns] = True
        assert torch.equal(seen, tile_mask)
        assert [len(columns) for _, columns in found[:-1]] == [pattern.width] * (len(found) - 1)
        assert not found or 0 < len(found[-1][1]) <= pattern.width
        places = [int(c) for _, columns in found for c in columns]
        assert places == sorted(places)


@given(layers(), patterns(("tile_element",)))
def test_tile_element_contains_its_tile_and_reaches_the_ratio(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    mask = pattern_mask(scores, pattern, kernel)
    share = float(Fraction(str(pattern.ratio)) - Fraction(str(pattern.delta)))
    tile = pattern_mask(scores, of("tile", width=pattern.width, ratio=share), kernel).keep
    assert torch.equal(mask.base, tile)
    assert (mask.keep | ~tile).all()
    assert int(mask.keep.sum()) == max(int(tile.sum()), kept_steps(pattern.ratio, scores.numel()))


@given(layers(), patterns(("tile_vector",)))
def test_n_of_every_m_are_kept_inside_compacted_tiles(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    mask = pattern_mask(scores, pattern, kernel)
    assert (mask.base | ~mask.keep).all()
    for keep, base in zip(mask.keep, mask.base, strict=True):
        assert torch.equal(keep.any(0), base.any(0))
        for rows, columns in tiles(base, pattern.width):
            for chunk in keep[rows][:, columns].split(pattern.m):
                assert (chunk.sum(0) == math.ceil(Fraction(pattern.n * len(chunk), pattern.m))).all()


@given(layers(), patterns(("element", "kernel", "block", "vector")), ratios)
def test_a_smaller_ratio_keeps_a_subset(layer: tuple[Tensor, int], pattern: Pattern, other: float) -> None:
    scores, kernel = layer
    if pattern.granularity == "vector":
        less, more = (of("vector", n=n, m=pattern.m) for n in (max(1, pattern.n - 1), pattern.n))
    else:
        less, more = (Pattern.of(pattern.to_dict() | {"ratio": r}) for r in sorted((pattern.ratio, other)))
    few, many = (pattern_mask(scores, p, kernel).keep for p in (less, more))
    assert (many | ~few).all()


def largest_unit(scores: Tensor, pattern: Pattern, kernel: int) -> int:
    _, K, N = scores.shape
    return {
        # each output gains or loses one
        "element": lambda: 1 if pattern.per == "layer" else scores[:, 0].numel(),
        "kernel": lambda: kernel,
        "block": lambda: min(pattern.height, K) * min(pattern.width, N),
        "tile": lambda: min(pattern.width, N),
        "tile_element": lambda: 1,
    }[pattern.granularity]()


def floor_of(scores: Tensor, pattern: Pattern, kernel: int) -> int:
    """Entries that are kept whatever the ratio, at most."""
    if pattern.granularity in ("tile", "tile_element"):
        groups, _, N = scores.shape
        columns = math.ceil(math.sqrt(pattern.ratio) * groups * N)
        return min(columns, groups * N)
    return largest_unit(scores, pattern, kernel)


@given(layers(), patterns(("element", "kernel", "block", "tile", "tile_element")))
@example((torch.zeros(1, 4, 7), 1), Pattern("tile_element", 0.25, width=4, delta=0.0312))
def test_realised_ratios_are_within_half_a_unit(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    kept, asked = int(pattern_mask(scores, pattern, kernel).keep.sum()), pattern.ratio * scores.numel()
    at_floor = asked < floor_of(scores, pattern, kernel)
    slack = 1e-9 * scores.numel()
    if not at_floor:
        half = largest_unit(scores, pattern, kernel) / 2
        # tiles alone may be past the ratio: by half a row, less what single weights were to add
        tiles = min(pattern.width, scores.shape[-1]) / 2 - pattern.delta * scores.numel()
        over = max(half, tiles) if pattern.granularity == "tile_element" else half
        assert -half - slack <= kept - asked <= over + slack
    assert kept >= min(asked - largest_unit(scores, pattern, kernel) / 2 - slack, 1)


@given(layers(), patterns())
def test_something_is_always_kept(layer: tuple[Tensor, int], pattern: Pattern) -> None:
    scores, kernel = layer
    mask = pattern_mask(scores, pattern, kernel)
    assert mask.keep.any()
    assert mask.ratio == pytest.approx(mask.keep.double().mean().item())


TIES = {
    "element": (of("element", ratio=0.25), "1111 0000 0000 0000"),
    "element_output": (of("element", per="output", ratio=0.25), "1111 0000 0000 0000"),
    "vector": (of("vector", n=1, m=2), "1111 0000 1111 0000"),
    "kernel": (of("kernel", ratio=0.25), "1100 0000 1100 0000"),
    "block": (of("block", height=2, width=2, ratio=0.25), "1100 1100 0000 0000"),
    "tile": (of("tile", width=1, ratio=0.25), "1100 1000 1000 0000"),
    "tile_wide": (of("tile", width=2, ratio=0.25), "1100 1100 0000 0000"),
    "tile_element": (of("tile_element", width=2, ratio=0.375, delta=0.125), "1111 1100 0000 0000"),
    "tile_vector": (of("tile_vector", width=2, n=1, m=2, ratio=0.125), "1100 0000 0000 0000"),
}


@pytest.mark.parametrize(("pattern", "expected"), TIES.values(), ids=list(TIES))
def test_equal_scores_are_taken_by_index(pattern: Pattern, expected: str) -> None:
    keep = pattern_mask(torch.full((1, 4, 4), 0.1), pattern, kernel=2).keep
    assert " ".join("".join(str(int(x)) for x in row) for row in keep[0]) == expected


def test_units_of_the_same_weights_in_another_order_are_equal() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(9, generator=generator, dtype=torch.float64)
    shuffled = torch.stack([values[torch.randperm(9, generator=generator)] for _ in range(200)], 1)
    keep = pattern_mask(shuffled[None], of("kernel", ratio=0.5), 9).keep
    assert keep[..., :100].all()
    assert not keep[..., 100:].any()


@pytest.mark.parametrize(("ratio", "columns"), [(0.25, 50), (0.49, 70), (0.81, 90), (0.36, 60), (0.3, 55), (0.01, 10)])
def test_columns_are_counted_without_float_error(ratio: float, columns: int) -> None:
    keep = pattern_mask(torch.ones(1, 100, 100), of("tile", width=10, ratio=ratio)).keep
    assert int(keep.any(1).sum()) == columns
    # the float 0.35 - 0.1 is more than a quarter
    added = pattern_mask(torch.ones(1, 100, 100), of("tile_element", width=10, ratio=0.35, delta=0.1))
    assert int(added.base.any(1).sum()) == 50


def test_a_group_without_columns_has_no_tiles() -> None:
    scores = torch.stack([torch.ones(4, 4), torch.full((4, 4), 2.0)])
    keep = pattern_mask(scores, of("tile", width=2, ratio=0.25)).keep
    assert not keep[0].any()
    assert [len(tiles(group, 2)) for group in keep] == [0, 2]


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_scores_that_order_nothing_are_refused(value: float) -> None:
    with pytest.raises(PruningError, match=r"scores: .* allowed are finite numbers >= 0"):
        pattern_mask(torch.tensor([[[1.0, value]]]), of("element", ratio=0.5))


# --- the GEMM view -------------------------------------------------------------------------------------------------

WEIGHTS = {
    "linear": ((7, 5), "linear", 1, False),
    "linear, x @ W": ((5, 7), "linear", 1, True),
    "1d": ((6, 4, 3), "conv", 1, False),
    "2d": ((6, 4, 3, 2), "conv", 1, False),
    "1x1": ((6, 4, 1, 1), "conv", 1, False),
    "3d": ((6, 4, 2, 3, 2), "conv", 1, False),
    "grouped": ((6, 4, 3, 3), "conv", 3, False),
    "depthwise": ((6, 1, 3, 3), "conv", 6, False),
    "transposed": ((4, 6, 3, 2), "conv_transposed", 1, True),
    "transposed, depthwise": ((4, 1, 3, 3), "conv_transposed", 4, False),
}


@pytest.mark.parametrize(("shape", "kind", "groups", "inputs_first"), WEIGHTS.values(), ids=list(WEIGHTS))
def test_the_view_and_its_inverse_cancel(shape: tuple[int, ...], kind: str, groups: int, inputs_first: bool) -> None:
    weight = torch.arange(math.prod(shape)).reshape(shape)
    gemm = gemm_view(weight, kind, groups, inputs_first=inputs_first)
    inputs = shape[0] // groups if inputs_first or kind == "conv_transposed" else shape[1]
    assert gemm.shape == (groups, math.prod(shape[2:]) * inputs, weight.numel() // groups // gemm.shape[1])
    assert torch.equal(weight_view(gemm, shape, kind, groups, inputs_first=inputs_first), weight)
    # going back copies nothing: the mask of a layer can be kept as either
    assert weight_view(gemm, shape, kind, groups, inputs_first=inputs_first).data_ptr() == gemm.data_ptr()


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_a_convolution_is_the_product_with_the_view(groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 4 // groups, 3, 2, generator=generator, dtype=torch.float64)
    image = torch.randn(1, 4, 5, 6, generator=generator, dtype=torch.float64)
    gemm = gemm_view(weight, "conv", groups)
    # unfold orders its rows (channel, kh, kw)
    patches = F.unfold(image, (3, 2))[0].unflatten(0, (groups, 4 // groups, 6)).transpose(1, 2).flatten(1, 2)
    product = torch.einsum("gkn,gkp->gnp", gemm, patches).flatten(0, 1)
    assert torch.allclose(product, F.conv2d(image, weight, groups=groups)[0].flatten(1))


def test_linear_layers_are_products_with_their_views() -> None:
    inputs, weight = torch.randn(3, 5), torch.randn(7, 5)
    assert torch.equal(gemm_view(weight, "linear")[0], weight.T)
    assert torch.equal(gemm_view(weight.T, "linear", inputs_first=True)[0], weight.T)
    assert torch.allclose(inputs @ gemm_view(weight, "linear")[0], F.linear(inputs, weight), atol=1e-5)
