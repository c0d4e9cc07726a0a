"""Spaces whose widths hardware likes, and spaces in which several units or weights share one choice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import (
    BlockUnit,
    ChannelUnit,
    CostModel,
    Histogram,
    Network,
    PruningError,
    PruningSpace,
    Recipe,
    costs_of,
    refine,
    sample_inside,
    space_file_of,
)
from spaces.budget import Budget
from tests.support.known import COUNTED
from tests.support.synthetic import chain, config

RATIOS = [1, 0.75, 0.5, 0.25]
PATTERNS = {
    "match": "*",
    "choices": [
        {"granularity": "none"},
        {"granularity": "element", "ratios": [0.5, 0.35]},
        {"granularity": "block", "height": 4, "width": 4, "ratios": [0.5]},
        {"granularity": "vector", "n": 2, "m": 4},
    ],
}


def space_of(network: Network, ratios: list[float] = RATIOS, **more: Any) -> PruningSpace:
    return PruningSpace.from_config(network, config(ratios, **more))


# --- divisor


@given(
    st.integers(1, 6),
    st.integers(1, 40),
    st.sampled_from([1, 2, 8, 12, 16, 32]),
    st.lists(st.floats(0.01, 1), min_size=1),
)
def test_widths_are_multiples_wherever_the_unit_allows(step, steps, divisor, ratios):
    unit = ChannelUnit("l0", step * steps, tied=step, writers=("l0",))
    offered = [width * step for width in unit.widths(divisor)]
    assert offered == sorted(set(offered))
    assert offered[-1] == unit.channels
    multiples = [width for width in range(step, unit.channels, step) if width % divisor == 0]
    if multiples:
        assert offered[:-1] == multiples
    # else as near to multiples as whole steps are
    assert all(min(width % divisor, -width % divisor) <= step / 2 for width in offered[:-1])
    network = Network("one", (unit,))
    axis = space_of(network, ratios, divisor=divisor).axes[0] if steps > 1 else None
    if axis is not None:
        for ratio in ratios:
            kept = min(offered, key=lambda width: (abs(width - ratio * unit.channels), -width))
            assert kept in [round(choice * unit.channels) for choice in axis.choices]
        assert {round(choice * unit.channels) for choice in axis.choices} <= set(offered)


def test_a_divisor_of_one_is_none():
    network = chain([12, 20, 7])
    assert space_of(network, divisor=1).axes == space_of(network).axes == space_of(network, divisor=None).axes


def test_units_of_fewer_channels_stay_whole_and_others_do_not():
    space = space_of(chain([4, 16, 20, 7]), divisor=8)
    assert [axis.choices for axis in space.axes] == [(1.0,), (1.0, 0.5), (1.0, 0.8, 0.4)]


# --- ties


def layered() -> Network:
    """Return a chain whose layers have the names of modules."""
    network = chain([8, 12, 16, 10, 6], positions=3)
    text = network.to_yaml()
    for number in range(5):
        text = text.replace(f"l{number}", f"layers.{number}.mlp.up")
    return Network.from_yaml(text)


TIES: dict[str, dict[str, Any]] = {
    "channels": {"tie": "layers.*.mlp"},
    "a module and a list": {"tie": ["layers.[01]", "layers.[23].mlp.up"]},
    "weights too": {"tie": "layers.*.mlp", "weights": [PATTERNS]},
    "two of them": {"tie": ["layers.[12]"], "weights": [PATTERNS | {"match": "layers.[012].*"}]},
    "with a divisor": {"tie": "layers.*", "divisor": 4, "weights": [PATTERNS]},
}


@pytest.mark.parametrize("more", TIES.values(), ids=list(TIES))
def test_rank_and_recipes_go_round_and_costs_are_those_of_recipes(more):
    space = space_of(layered(), **more)
    assert space.size == np.prod(space.shape)
    rows = space.sample(60, np.random.default_rng(0))
    costs = space.costs(rows)
    for number, row in enumerate(rows):
        assert (space.unrank(space.rank(row)) == row).all()
        recipe = space.recipe(row)
        assert recipe == recipe.canonical(space.network)
        assert (space.row(recipe) == row).all()
        assert Recipe.from_yaml(recipe.to_yaml()) == recipe
        assert recipe in space
        found = costs_of(space.network, recipe)
        assert {name: int(costs[name][number]) for name in COUNTED} == found


@pytest.mark.parametrize("more", TIES.values(), ids=list(TIES))
def test_every_recipe_is_there_once_and_makes_the_same_choice_everywhere(more):
    space = space_of(layered(), **more)
    recipes = list(space.enumerate()) if space.size < 5000 else [space[i] for i in range(0, space.size, 97)]
    assert len(set(recipes)) == len(recipes)
    for recipe in recipes[:200]:
        for axis in space.axes:
            chosen = recipe.ratios if axis.part == "channels" else recipe.patterns
            default = 1.0 if axis.part == "channels" else None
            together = [chosen.get(one.name, default) for one in axis.addressed]
            assert any(together == [one.choices[i] for one in axis.addressed] for i in range(len(axis.choices)))


@pytest.mark.parametrize("more", TIES.values(), ids=list(TIES))
def test_a_space_file_gives_the_tied_axes_again(more):
    space = space_of(layered(), **more)
    again = PruningSpace.from_config(space.network, space_file_of(space))
    assert (again.axes, again.divisor) == (space.axes, space.divisor)
    tied = next(axis for axis in space.axes if axis.members)
    refined = refine(space, {tied.label: (0.3, 0.8)}, np.random.default_rng(0))
    narrowed = PruningSpace.from_config(space.network, refined.config)
    left = next(axis for axis in narrowed.axes if axis.label == tied.label)
    assert all(0.3 <= ratio <= 0.8 for ratio in left.ratios)
    assert [one.name for one in left.members] == [one.name for one in tied.members]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 24), min_size=3, max_size=5), st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_a_choice_is_whatever_tells_two_members_apart(widths, ratios):
    network = chain(widths)
    tied, free = space_of(network, ratios, tie="l*"), space_of(network, ratios)
    (axis,) = tied.axes
    assert len(axis.members) == len(widths) - 1
    # the union: as many choices as there are different recipes of one ratio asked for
    every = {tuple(max(1, int(ratio * width + 0.5)) for width in widths[:-1]) for ratio in map(float, ratios)}
    assert len(axis.choices) == len(every)
    assert list(axis.choices) == sorted(set(axis.choices), reverse=True)
    for i, recipe in enumerate(tied.enumerate()):
        assert recipe in free
        assert (axis.ratios[i] == 1) == (recipe == Recipe())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([*TIES]), st.floats(0.2, 0.9), st.sampled_from(COUNTED))
def test_counting_and_sampling_inside_budgets_know_ties(name, share, metric):
    space = space_of(layered(), **TIES[name])
    low, high = space.bounds[metric]
    rows = space.rows(0, min(space.size, 4000))
    costs = space.costs(rows)[metric]
    assert low <= costs.min() <= costs.max() <= high
    parts = CostModel(space.network, space.axes).parts(metric)
    assert parts is not None
    summed = sum(table[tuple(rows[:, i] for i in scope)] if scope else int(table) for scope, table in parts.items())
    assert (summed == costs).all()
    if space.size <= 4000:
        limit = float(low + share * (high - low))
        found = Histogram.of(space, metric, 0, limit)
        assert found is not None
        if found.exact:
            assert found.count == (costs <= limit).sum()
        budget = Budget.parse({metric: max(2, int(limit))})
        drawn = sample_inside(space, 20, np.random.default_rng(0), budget=budget).rows
        assert space.inside(drawn, budget).all()


def test_what_is_tied_inside_one_block_goes_with_it():
    network = layered()
    blocks = (BlockUnit("layers.1"), BlockUnit("layers.2"))
    network = Network("blocks", network.units, tensors=network.tensors, layers=network.layers, blocks=blocks)
    lists = {
        "weights": [PATTERNS | {"match": "layers.[012].*"}],
        "blocks": [{"match": "*", "choices": [{"granularity": "layer", "ratios": [1, 0]}]}],
    }
    with pytest.raises(PruningError) as caught:
        space_of(network, tie="layers.*.mlp", **lists)
    assert "\n" not in str(caught.value)
    assert "go with different blocks that can be dropped; allowed is" in str(caught.value)
    assert space_of(network, tie="layers.*.mlp", **(lists | {"blocks": []})).size
    space = space_of(network, tie="layers.2.mlp", **lists)
    rows = [tuple(row) for row in space.rows(0, space.size)]
    assert len(set(rows)) == space.size == len({space.recipe(np.array(row)) for row in rows})


def test_what_only_adds_to_a_stream_does_not_tie_it():
    network = chain([8, 8, 8])
    stream = ChannelUnit("l0", 8, writers=("l0", "l1"))
    network = Network("stream", (stream,), layers=network.layers)
    space = space_of(network, tie="l1")
    assert [axis.name for axis in space.axes] == ["l0"]
    assert not space.axes[0].members
    assert ("tie: l1", "it ties no two choices") in space.skipped


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tie": "layer.*.mlp"}, "space.tie: 'layer.*.mlp' is unknown, did you mean 'layers.*.mlp'?"),
        ({"tie": 3}, "space.tie: 3, allowed is a glob such as 'layers.*.mlp', a list of them, or null"),
        ({"tie": [""]}, "space.tie: [''], allowed is a glob"),
        ({"divisor": 0}, "space.divisor: 0, allowed is a whole number >= 1 such as 8, or null"),
        ({"divisor": 1.5}, "space.divisor: 1.5, allowed is"),
        ({"divisor": True}, "space.divisor: True, allowed is"),
        ({"ties": "l*"}, "space: 'ties' is unknown, did you mean 'tie'?"),
    ],
)
def test_mistakes_are_one_line(more, message):
    with pytest.raises(PruningError) as caught:
        space_of(layered(), **more)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unlike_choices_are_not_tied():
    network = layered()
    halves = {"match": "layers.1.*", "choices": [{"granularity": "filter", "ratios": [1, 0.5]}]}
    file = config(RATIOS, tie="layers.*")
    with pytest.raises(PruningError, match=r"^space.tie: 'layers.\*' ties .* different choices in space.channels$"):
        PruningSpace.from_config(network, file | {"channels": [halves, *file["channels"]]})


def test_a_recipe_that_breaks_a_tie_is_no_member():
    space = space_of(layered(), tie="layers.[01].mlp")
    torn = Recipe.of({"layers.0.mlp.up": 0.5})
    assert torn not in space
    with pytest.raises(PruningError, match=r"^recipe: layers.0.mlp.up kept 0.5, layers.1.mlp.up kept 1.0 of layers"):
        space.row(torn)
