"""Neighbourhoods: the choices a few steps from a recipe's, and the space of one recipe alone."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spaces import Pattern, PruningError, PruningSpace, Recipe, space_file_around
from tests.spaces.test_mixed_space import NETWORK, SMALL
from tests.support.synthetic import chain, space_of

RATIOS = [1, 0.75, 0.5, 0.25]
CHAIN = space_of(chain([8, 8, 10]), RATIOS)


def choices(space: PruningSpace) -> dict[str, tuple]:
    return {axis.label: axis.choices for axis in space.axes}


@pytest.mark.parametrize("radius", [0, 1, 2, 9])
def test_channels_are_at_most_so_many_steps_of_the_grid_away(radius: int) -> None:
    found = choices(CHAIN.around(Recipe.of({"l0": 0.75}), radius))
    for unit, place in (("l0", 1), ("l1", 0)):
        assert found[f"channels.{unit}"] == tuple(RATIOS[max(0, place - radius) : place + radius + 1])


@given(st.integers(0, SMALL.size - 1), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_neighbourhood_is_what_so_many_steps_of_each_axis_reach(index: int, radius: int) -> None:
    recipe = SMALL[index]
    near = SMALL.around(recipe, radius)
    assert recipe in near
    dropped = [NETWORK.block[name] for name in recipe.blocks]
    row = SMALL.row(recipe)
    for old, new, place in zip(SMALL.axes, near.axes, row.tolist(), strict=True):
        inner = NETWORK.enclosing.get(old.name, ()) if old.part == "channels" else ()
        held = any(old.part != "channels" and block.name != old.name and block.holds(old.name) for block in dropped)
        if held or any(block.name in inner for block in dropped):
            # the recipe says nothing of it
            assert new == old
            continue
        reached = {place}
        for _ in range(radius):
            reached |= {i for p in reached for i in old.neighbours[p]}
        assert new.choices == tuple(old.choices[i] for i in sorted(reached))


def test_radius_0_is_the_recipe_alone() -> None:
    for recipe in (SMALL[0], SMALL[SMALL.size // 3]):
        if not recipe.blocks:
            near = SMALL.around(recipe, 0)
            assert near.size == 1
            assert near[0] == recipe


def test_a_ratio_between_two_choices_counts_as_the_nearest() -> None:
    assert choices(CHAIN.around(Recipe.of({"l0": 0.375}), 0))["channels.l0"] in ((0.5,), (0.25,))
    assert choices(CHAIN.around(Recipe.of({"l0": 0.625}), 1))["channels.l0"] == (1.0, 0.75, 0.5)


def test_what_the_space_cannot_say_is_one_line() -> None:
    space = space_of(chain([8, 8, 10]), RATIOS)
    only = PruningSpace(space.network, space.axes[:1])
    with pytest.raises(PruningError, match=r"space\.around: the space leaves channels of l1 whole"):
        only.around(Recipe.of({"l1": 0.5}), 1)
    with pytest.raises(PruningError, match="channels: 'nothing' is unknown"):
        space.around(Recipe.of({"nothing": 0.5}), 1)
    layer = next(axis.name for axis in SMALL.axes if axis.part == "weights")
    other = Pattern.of({"granularity": "vector", "n": 1, "m": 4})
    if other.kind not in next(axis for axis in SMALL.axes if axis.name == layer and axis.part == "weights").kinds:
        with pytest.raises(PruningError, match=f"space.around: {layer} has .* in the recipe, allowed are"):
            SMALL.around(Recipe.of(weights={layer: other}), 1)


@pytest.mark.parametrize("middle", ["x", {"recipe": {}}, {"recipe": {}, "radius": -1}, {"recipe": {}, "radius": True}])
def test_a_wrong_middle_is_one_line(middle: object) -> None:
    channels = [{"match": "*", "choices": [{"granularity": "filter", "ratios": [1, 0.5]}]}]
    with pytest.raises(PruningError, match=r"space\.(around|radius)"):
        PruningSpace.from_config(CHAIN.network, {"channels": channels, "around": middle})


@pytest.mark.parametrize("index", [1, 5, SMALL.size // 2, SMALL.size - 1])
def test_the_space_of_a_recipe_holds_it_alone(index: int) -> None:
    recipe = SMALL[index]
    if recipe == Recipe():
        return
    alone = PruningSpace.from_config(NETWORK, space_file_around(recipe))
    assert [alone[i] for i in range(alone.size)] == [recipe]


def test_names_that_the_network_has_not_are_refused() -> None:
    for recipe in (Recipe.of({"l0": 0.5, "l7": 0.5}), Recipe.of({"l0": 0.5}, blocks=["no"])):
        with pytest.raises(PruningError, match="is unknown"):
            PruningSpace.from_config(CHAIN.network, space_file_around(recipe))
    with pytest.raises(PruningError, match="recipe: it keeps everything"):
        space_file_around(Recipe())


def test_every_pair_of_a_small_space_is_within_its_diameter() -> None:
    diameter = max(len(axis.choices) for axis in CHAIN.axes)
    for one, other in product(range(CHAIN.size), repeat=2):
        assert CHAIN[other] in CHAIN.around(CHAIN[one], diameter)
