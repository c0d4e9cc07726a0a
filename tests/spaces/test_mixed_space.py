"""Spaces of channels, patterns and blocks: counting, numbering, sampling and costs agree; mistakes are one line."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import ceil
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import chisquare

from explorer.search.ladder import ladder_rows
from explorer.search.samplers import Parameters
from spaces import (
    BlockUnit,
    Budget,
    ChannelUnit,
    Dim,
    FixedBlock,
    Layer,
    Network,
    Product,
    PruningError,
    PruningSpace,
    Recipe,
    Span,
    Tensor,
    costs_of,
    dense_costs,
    sample_inside,
)

WIDTHS = {"stem": 8, "b1.a": 4, "b1.inner.c": 6, "b2.a": 3}


def _weight(name: str, rows: Dim, reads: Dim, *, kernel: int = 3) -> tuple[Tensor, ...]:
    spatial = Dim((Span(None, 0, kernel),))
    return (
        Tensor(f"{name}.weight", (rows, Dim(reads.spans, reads.groups, True), spatial, spatial)),
        Tensor(f"{name}.bias", (rows,)),
    )


def _unit(name: str) -> Dim:
    return Dim((Span(name, 0, WIDTHS[name]),))


# stem -> b1 (a, with b1.inner (c) nested in it) -> b2 (a) -> a depthwise layer -> head
NETWORK = Network(
    "blocks",
    units=tuple(ChannelUnit(name, width, writers=(name,)) for name, width in WIDTHS.items()),
    tensors=(
        *_weight("stem", _unit("stem"), Dim((Span(None, 0, 3),))),
        *_weight("b1.a", _unit("b1.a"), _unit("stem")),
        *_weight("b1.inner.c", _unit("b1.inner.c"), _unit("b1.a")),
        *_weight("b1.inner.d", _unit("b1.a"), _unit("b1.inner.c"), kernel=1),
        *_weight("b1.b", _unit("stem"), _unit("b1.a")),
        *_weight("b2.a", _unit("b2.a"), _unit("stem")),
        *_weight("b2.b", _unit("stem"), _unit("b2.a")),
        Tensor(
            "deep.weight", (_unit("stem"), Dim((Span(None, 0, 1),)), Dim((Span(None, 0, 3),)), Dim((Span(None, 0, 3),)))
        ),
        Tensor("head.weight", (Dim((Span(None, 0, 5),)), Dim(_unit("stem").spans, 1, True)), 2),
    ),
    layers=(
        *(Layer(name, "conv", f"{name}.weight", 10) for name in ("stem", "b1.a", "b1.inner.c", "b1.inner.d", "b1.b")),
        *(Layer(name, "conv", f"{name}.weight", 7) for name in ("b2.a", "b2.b")),
        Layer("deep", "conv", "deep.weight", 7, groups=8),
        Layer("head", "linear", "head.weight", 1),
    ),
    products=(Product("b2.attention", 11, (_unit("b2.a"),)), Product("", 3)),
    blocks=(BlockUnit("b1"), BlockUnit("b1.inner"), BlockUnit("b2", ("x", None))),
    fixed_blocks=(FixedBlock("b3", "changes the shape"),),
)


def channels(*ratios: float, match: str = "*") -> dict[str, Any]:
    return {"match": match, "choices": [{"granularity": "filter", "ratios": list(ratios)}]}


def weights(*choices: dict[str, Any], match: str = "*") -> dict[str, Any]:
    return {"match": match, "choices": [{"granularity": "none"}, *choices]}


def blocks(*ratios: int, match: str = "*") -> dict[str, Any]:
    return {"match": match, "choices": [{"granularity": "layer", "ratios": list(ratios)}]}


ELEMENT = {"granularity": "element", "ratios": [0.5, 0.25]}
VECTOR = {"granularity": "vector", "n": 2, "m": 4}
KERNEL = {"granularity": "kernel", "ratios": [0.5]}
TILE = {"granularity": "tile", "width": 4, "ratios": [0.5]}
BLOCK = {"granularity": "block", "height": 4, "width": 4, "ratios": [0.5]}
SMALL = PruningSpace.from_config(
    NETWORK,
    {
        "channels": [channels(1, 0.5, match="b*")],
        "weights": [weights(ELEMENT, match="b1.b"), weights(VECTOR, match="b1.inner.c"), weights(TILE, match="head")],
        "blocks": [blocks(1, 0)],
    },
)
LARGE = PruningSpace.from_config(
    NETWORK,
    {
        "channels": [channels(1, 0.75, 0.5, 0.25)],
        "weights": [weights(ELEMENT, VECTOR, KERNEL, TILE, BLOCK)],
        "blocks": [blocks(0, match="b2"), blocks(1, 0)],
    },
)
KEPT_ONLY = PruningSpace.from_config(NETWORK, {"channels": [channels(1, 0.5)], "blocks": [blocks(1)]})
SPACES = {"small": SMALL, "large": LARGE, "blocks that stay": KEPT_ONLY}


def test_a_dropped_block_counts_once() -> None:
    # b1: dropped, or 2 widths x 3 patterns of b1.b x (inner dropped, or 2 widths x 2 patterns of c)
    b1 = 1 + 2 * 3 * (1 + 2 * 2)
    # b2: dropped, or 2 widths; head: 2 patterns
    assert SMALL.size == b1 * (1 + 2) * 2
    assert KEPT_ONLY.size == 2**4


def test_every_recipe_of_the_plain_product_is_in_the_space_once() -> None:
    found = {SMALL.recipe(row) for row in np.array(list(product(*map(range, SMALL.shape))), dtype=np.int16)}
    assert found == {SMALL[i] for i in range(SMALL.size)}
    assert len(found) == SMALL.size


@pytest.mark.parametrize("name", SPACES)
@given(index=st.integers(0, 2**80))
@settings(max_examples=60, deadline=None)
def test_rank_and_unrank_are_inverse(name: str, index: int) -> None:
    space = SPACES[name]
    index %= space.size
    row = space.unrank(index)
    assert space.rank(row) == index
    assert space.row(space.recipe(row)).tolist() == row.tolist()
    assert space.canonical(row[None].copy())[0].tolist() == row.tolist()
    assert Recipe.from_yaml(space.recipe(row).to_yaml()) == space.recipe(row)
    assert space.recipe(row).canonical(NETWORK) == space.recipe(row)
    parameters = Parameters(space)
    assert parameters.row(parameters.of(row)).tolist() == row.tolist()


@pytest.mark.parametrize("name", SPACES)
def test_rows_are_what_unrank_gives(name: str) -> None:
    space = SPACES[name]
    start = max(0, space.size - 300)
    rows = space.rows(start, space.size)
    assert rows.tolist() == [space.unrank(i).tolist() for i in range(start, space.size)]


@pytest.mark.parametrize("name", SPACES)
def test_costs_of_rows_are_costs_of_recipes(name: str) -> None:
    space = SPACES[name]
    rows = space.sample(300, np.random.default_rng(0), "axes")
    costs = space.costs(rows)
    for i, row in enumerate(rows):
        assert {cost: int(values[i]) for cost, values in costs.items()} == costs_of(NETWORK, space.recipe(row))


def _by_hand(recipe: Recipe) -> dict[str, int]:
    """Count a recipe tensor by tensor, with what DESIGN.md says of patterns, and the plainest encodings."""
    width = {name: max(1, int(recipe.ratios.get(name, 1) * n + 0.5)) for name, n in WIDTHS.items()}
    dropped = [NETWORK.block[name] for name in recipe.blocks]
    positions = {layer.weight: layer.positions for layer in NETWORK.layers}
    total = Counter(flops=3)
    if not any(block.holds("b2.attention") for block in dropped):
        total["flops"] += 11 * width["b2.a"]
    for tensor in NETWORK.tensors:
        if any(block.holds(tensor.name) for block in dropped):
            continue
        shape = [sum(r.count if r.unit is None else width[r.unit] for r in dim.spans) for dim in tensor.dims]
        entries = int(np.prod(shape))
        pattern = recipe.patterns.get(tensor.name.removesuffix(".weight"))
        kept, size = entries, entries * tensor.itemsize
        if pattern is not None:
            K, N = int(np.prod(shape[1:])), shape[0]
            if pattern.granularity == "vector":
                kept = N * (K // pattern.m * pattern.n + ceil(pattern.n * (K % pattern.m) / pattern.m))
                extra = -(-kept * 2 // 8)
            elif pattern.granularity == "kernel":
                kept = max(1, int(pattern.ratio * (entries // 9) + 0.5)) * 9
                extra = -(-(entries // 9) // 8)
            else:
                kept = max(1, int(pattern.ratio * entries + 0.5))
                if pattern.granularity == "block":
                    extra = -(-(-(-K // pattern.height) * -(-N // pattern.width)) // 8)
                elif pattern.granularity == "tile":
                    tiles = ceil(ceil(pattern.ratio**0.5 * N) / pattern.width)
                    extra = -(-N // 8) - (-(tiles * K) // 8)
                else:
                    extra = 1 << 40
            csr = 4 * (N + 1) + kept * (2 + tensor.itemsize)
            size = min(size, -(-entries // 8) + kept * tensor.itemsize, csr, extra + kept * tensor.itemsize)
        total["flops"] += positions.get(tensor.name, 0) * kept
        total["params"] += kept
        total["bytes"] += size
    return dict(total)


def test_costs_are_those_counted_by_hand() -> None:
    rows = np.concatenate([LARGE.sample(400, np.random.default_rng(1), "axes"), LARGE.rows(0, 20)])
    for row in rows:
        assert costs_of(NETWORK, LARGE.recipe(row)) == _by_hand(LARGE.recipe(row)), LARGE.recipe(row)
    assert dense_costs(NETWORK) == _by_hand(Recipe())


def test_samples_are_uniform_over_recipes() -> None:
    rows = SMALL.sample(40_000, np.random.default_rng(0))
    counts = Counter(SMALL.rank(row) for row in rows)
    assert len(counts) == SMALL.size
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_samples_by_axes_drop_a_block_half_of_the_time() -> None:
    rows = SMALL.sample(20_000, np.random.default_rng(0), "axes")
    places = {axis.label: place for place, axis in enumerate(SMALL.axes)}
    assert abs((rows[:, places["blocks.b1"]] == 1).mean() - 0.5) < 0.02
    hidden = rows[rows[:, places["blocks.b1"]] == 1]
    assert not hidden[:, [places["channels.b1.a"], places["weights.b1.inner.c"], places["blocks.b1.inner"]]].any()


@pytest.mark.parametrize("name", SPACES)
def test_bounds_hold_and_are_reached(name: str) -> None:
    space = SPACES[name]
    rows = space.rows(0, space.size) if space.size < 10_000 else space.sample(20_000, np.random.default_rng(0), "axes")
    for cost, values in space.costs(rows).items():
        least, most = space.bounds[cost]
        assert least <= values.min()
        assert values.max() <= most
        if space.size < 10_000:
            assert (least, most) == (values.min(), values.max())


@pytest.mark.parametrize("name", SPACES)
def test_neighbours_are_canonical_and_one_choice_away(name: str) -> None:
    space = SPACES[name]
    for row in space.sample(30, np.random.default_rng(2), "axes"):
        near = space.neighbours(row)
        assert len(np.unique(near, axis=0)) == len(near)
        assert (near == space.canonical(near.copy())).all()
        for other in near:
            assert (other != row).any()
            # a kept block makes what is inside it appear, a dropped one disappear
            changed = [axis.part for axis, a, b in zip(space.axes, row, other, strict=True) if a != b]
            assert len(changed) == 1 or "blocks" in changed


def test_sampling_inside_a_budget_walks_through_blocks_and_patterns() -> None:
    budget = Budget.parse({"flops": [0.1, 0.12], "bytes": 0.5})
    found = sample_inside(LARGE, 200, np.random.default_rng(0), budget=budget, max_draws=4000)
    assert LARGE.inside(found.rows, budget).all()
    assert (found.rows == LARGE.canonical(found.rows.copy())).all()


def test_uniform_recipes_of_every_family() -> None:
    kinds = ("element", "vector(m=4)", "kernel", "tile(width=4)", "block(height=4, width=4)")
    assert tuple(LARGE.families) == ("channels", *kinds, "blocks")
    for family in LARGE.families:
        recipe = LARGE.recipe(LARGE.uniform(0.5, family))
        kinds = {pattern.kind for _, pattern in recipe.weights}
        assert bool(recipe.channels) == (family == "channels")
        assert kinds <= {family}
    row = SMALL.uniform(1 / 3, "blocks")
    assert SMALL.recipe(row).blocks


def _head(granularity: str, **parameters: Any) -> Recipe:
    return Recipe.of(weights={"head": {"granularity": granularity, **parameters}})


def test_one_granularity_is_one_family_however_layers_differ() -> None:
    lists = [weights(TILE, match="b1.*"), weights(TILE, VECTOR, match="b2.*")]
    space = PruningSpace.from_config(NETWORK, {"weights": lists})
    tiled = space.recipe(space.uniform(0.5, "tile(width=4)"))
    assert {"b1.a", "b1.b", "b2.a", "b2.b"} <= tiled.patterns.keys()
    # without kernel positions a kernel is a single weight
    assert tuple(PruningSpace.from_config(NETWORK, {"weights": [weights(KERNEL)]}).families) == ("weights",)


def test_weights_that_compete_within_outputs_are_another_kind() -> None:
    kinds = [{"granularity": "element", "per": per, "ratios": [0.51, 0.5]} for per in ("layer", "output")]
    choices = [{"granularity": "none"}, *kinds]
    space = PruningSpace.from_config(NETWORK, {"weights": [weights(*choices, match="head")]})
    (axis,) = space.axes
    assert axis.kinds == ("element", "element(per=output)")
    # a column has fewer entries than the layer, and 0.51 of them are as many as 0.5
    assert [str(choice) for choice in axis.choices].count("element(per=output) 0.5") == 1
    for choice in axis.choices[1:]:
        recipe = Recipe(weights=(("head", choice),))  # type: ignore[arg-type]
        assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_sizes_beyond_a_layer_are_one_choice() -> None:
    tiles = {"granularity": "tile", "ratios": [0.5]}
    choices = [{**tiles, "width": width} for width in (2, 5, 16)]
    space = PruningSpace.from_config(NETWORK, {"weights": [weights(*choices, match="head")]})
    assert [str(choice) for choice in space.axes[0].choices] == ["None", "tile(width=2) 0.5", "tile(width=5) 0.5"]


def test_a_buffer_has_no_pattern() -> None:
    blur = Network(
        "blur",
        tensors=(
            Tensor("blur.weight", (Dim((Span(None, 0, 4),)), Dim((Span(None, 0, 4),), reads=True)), parameter=False),
            Tensor("last.weight", (Dim((Span(None, 0, 4),)), Dim((Span(None, 0, 4),), reads=True))),
        ),
        layers=(Layer("blur", "linear", "blur.weight", 1), Layer("last", "linear", "last.weight", 1)),
    )
    space = PruningSpace.from_config(blur, {"weights": [weights(ELEMENT)]})
    assert [axis.name for axis in space.axes] == ["last"]
    assert ("blur: element", "its weight is a buffer, not a parameter") in space.skipped


def test_a_ladder_is_a_number_of_ratios_or_the_ratios_themselves() -> None:
    space = PruningSpace.from_config(NETWORK, {"weights": [weights({**ELEMENT, "ratios": [0.75, 0.5, 0.25]})]})
    given = ladder_rows(space, [0.5, 0.25, 1])
    assert [row.tolist() for row in given] == [space.uniform(ratio).tolist() for ratio in (0.5, 0.25)]
    assert len(ladder_rows(space, 4)) == 3
    assert ladder_rows(space, 0) == ladder_rows(space, []) == []
    each = [LARGE.uniform(0.5, family).tolist() for family in LARGE.families]
    assert [row.tolist() for row in ladder_rows(LARGE, [0.5])] == each


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (_head("kernel", ratio=0.5), _head("element", ratio=0.5)),
        (_head("tile_vector", ratio=0.5, width=4), _head("vector")),
        (_head("element", ratio=0.501), _head("element", ratio=0.5)),
        (_head("block", ratio=0.3), Recipe()),
        (Recipe.of({"b1.a": 0.5}, {"b1.b": VECTOR}, ["b1", "b1.inner"]), Recipe.of(blocks=["b1"])),
    ],
)
def test_two_spellings_are_one_recipe(first: Recipe, second: Recipe) -> None:
    assert first != second
    assert first.canonical(NETWORK) == second.canonical(NETWORK)


def _file(part: str, **choice: Any) -> dict[str, Any]:
    return {part: [{"match": choice.pop("match", "*"), "choices": [choice]}]}


MISTAKES: list[tuple[Any, str]] = [
    (
        _file("weights", granularity="vector", n=5, m=4),
        "space.weights[0].choices.n: 5 of every 4 weights, allowed is n <= m",
    ),
    (_file("weights", granularity="tile", width=0, ratios=[0.5]), "choices.width: 0, allowed is a whole number >= 1"),
    (_file("weights", granularity="tile", width=1.5, ratios=[0.5]), "choices.width: 1.5, allowed is a whole number"),
    (_file("weights", granularity="block", height=-1, ratios=[0.5]), "choices.height: -1, allowed"),
    (_file("weights", granularity="element", ratios=[0]), "ratio 0 is not a share kept"),
    (_file("weights", granularity="element", ratios=[1.5]), "ratio 1.5 is not a share kept"),
    (_file("weights", granularity="element"), "no ratios given"),
    (_file("weights", granularity="element", ratio=[0.5]), "'ratio' is unknown, did you mean 'ratios'?"),
    (_file("weights", granularity="element", per="row", ratios=[0.5]), "choices.per: 'row' is unknown"),
    (_file("weights", granularity="vector", ratios=[0.5]), "the ratio of vector is n / m"),
    (_file("weights", granularity="tile_element", ratios=[0.05]), "0.05, allowed is a ratio above delta=0.05"),
    (
        _file("weights", granularity="tile_element", delta=2, ratios=[0.5]),
        "choices.delta: 2, allowed is a share 0 < delta < 1",
    ),
    (_file("weights", granularity="tile_vector", n=1, ratios=[0.5]), "0.5, allowed is a ratio up to n/m=1/4"),
    (_file("weights", granularity="filter", ratios=[0.5]), "'filter' belongs in the list 'channels'"),
    (_file("channels", granularity="tile", ratios=[0.5]), "'tile' belongs in the list 'weights'"),
    (_file("weights", granularity="tiel", ratios=[0.5]), "'tiel' is unknown, did you mean 'tile'?"),
    (_file("weights", granularity="none", ratios=[0.5]), "'ratios' beside granularity none"),
    (_file("blocks", granularity="layer", ratios=[0.5]), "0.5, allowed is 1 (kept) and 0 (dropped)"),
    (
        _file("weights", match="deep", granularity="tile", ratios=[0.5]),
        "deep cannot have tile: of the patterns a depthwise",
    ),
    (
        _file("weights", match="lyer*", granularity="tile", ratios=[0.5]),
        "'lyer*' matches none of the layers stem, b1.a",
    ),
    (_file("blocks", match="c*", granularity="layer", ratios=[0]), "'c*' matches none of the blocks b1, b1.inner, b2"),
    ({"weights": "tile"}, "space.weights: expected a list"),
    ({"wieghts": []}, "'wieghts' is unknown, did you mean 'weights'?"),
]


@pytest.mark.parametrize(("file", "words"), MISTAKES)
def test_mistakes_are_one_line(file: Any, words: str) -> None:
    with pytest.raises(PruningError) as caught:
        PruningSpace.from_config(NETWORK, file)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("space")


def test_what_is_matched_in_vain_is_listed() -> None:
    file = {"weights": [weights(TILE)], "blocks": [blocks(1, 0), blocks(0, match="b2")]}
    skipped = dict(PruningSpace.from_config(NETWORK, file).skipped)
    assert skipped["deep: tile"] == "of the patterns a depthwise convolution allows element and kernel only"
    assert skipped["blocks: b3"] == "changes the shape"
    assert skipped["blocks: b2"] == "it matches nothing that no entry before it matches"
    file = {"weights": [weights({**BLOCK, "height": 99, "width": 99}, ELEMENT)]}
    whole = dict(PruningSpace.from_config(NETWORK, file).skipped)
    assert "head: block(height=99, width=99) 0.5" in whole


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"weights": {"head": {"granularity": "vector", "n": 3, "m": 2}}}, "weights.head.n: 3 of every 2"),
        ({"weights": {"head": 0.5}}, "weights.head: expected a pattern"),
        ({"weights": {"head": {"granularity": "tile", "ratio": 2}}}, "weights.head.ratio: ratio 2"),
        ({"blocks": {"b1": 2}}, "blocks.b1: 2, allowed is 1 (kept) or 0 (dropped)"),
        ({"blocks": ["b1"]}, "recipe.blocks: expected a mapping"),
    ],
)
def test_mistakes_in_recipes(plain: Any, words: str) -> None:
    with pytest.raises(PruningError) as caught:
        Recipe.from_dict(plain)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        (Recipe.of(blocks=["b9"]), "blocks: 'b9' is unknown"),
        (Recipe.of(weights={"nothing": VECTOR}), "weights: 'nothing' is unknown"),
        (Recipe.of(weights={"deep": VECTOR}), "weights.deep: vector: of the patterns a depthwise"),
    ],
)
def test_recipes_of_another_network(recipe: Recipe, words: str) -> None:
    with pytest.raises(PruningError) as caught:
        recipe.canonical(NETWORK)
    assert words in str(caught.value)
    assert recipe not in LARGE


def _two(conv: str, head: str) -> Recipe:
    return Recipe.of(weights={name: {"granularity": g, "ratio": 0.5} for name, g in (("b1.a", conv), ("head", head))})


@pytest.mark.parametrize(
    ("recipe", "granularity"),
    [
        (Recipe(), "dense"),
        (Recipe.of({"stem": 0.5}), "filter"),
        (Recipe.of(blocks=["b1"]), "layer"),
        (Recipe.of({"stem": 0.5}, blocks=["b1"]), "mixed"),
        (_two("kernel", "element"), "kernel"),  # the head has no kernel positions
        (_two("element", "element"), "element"),
        (_two("tile", "element"), "mixed"),
    ],
)
def test_a_recipe_is_of_one_granularity_or_mixed(recipe: Recipe, granularity: str) -> None:
    assert recipe.granularity(NETWORK) == granularity
