"""Spaces and recipes: counting, indexing and sampling agree with one another; mistakes are one line."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.stats import chisquare

from spaces import ChannelUnit, FixedChannels, Network, PruningError, PruningSpace, Recipe
from spaces.granularity import kept_steps, rounded
from tests.support.synthetic import SPACES, chain, config, space_of

HUGE = space_of(chain([64] * 41), [i / 8 for i in range(1, 9)])
RECIPES = st.dictionaries(st.text(min_size=1, max_size=8), st.floats(1e-6, 1), max_size=5).map(Recipe.of)
PROPERTY = settings(max_examples=50, deadline=None)


@given(RECIPES)
@PROPERTY
def test_recipe_round_trips(recipe: Recipe) -> None:
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe
    again = Recipe.of(dict(reversed(recipe.channels)) | {"dense": 1})
    assert again == recipe
    assert hash(again) == hash(recipe)


@given(SPACES, st.integers(0, 2**32))
@PROPERTY
def test_recipes_of_a_space_are_canonical(space: PruningSpace, seed: int) -> None:
    for row in space.sample(5, np.random.default_rng(seed)):
        recipe = space.recipe(row)
        assert recipe.canonical(space.network) == recipe
        assert space.row(recipe).tolist() == row.tolist()
        assert recipe in space


@given(st.integers(1, 200), st.floats(0.001, 1))
@PROPERTY
def test_kept_steps_is_the_rule_and_survives_rounding(steps: int, ratio: float) -> None:
    kept = kept_steps(ratio, steps)
    assert 1 <= kept <= steps
    assert abs(kept - ratio * steps) <= 0.5 or kept == 1
    assert kept_steps(rounded(kept / steps), steps) == kept


@given(SPACES)
@PROPERTY
def test_size_is_the_number_of_distinct_recipes(space: PruningSpace) -> None:
    recipes = list(space.enumerate())
    assert len(set(recipes)) == len(recipes) == space.size == len(space)
    assert [space[i] for i in range(space.size)] == recipes


@given(SPACES, st.data())
@PROPERTY
def test_rank_is_the_inverse_of_unrank(space: PruningSpace, data: st.DataObject) -> None:
    index = data.draw(st.integers(-space.size, space.size - 1))
    assert space.rank(space.unrank(index)) == index % space.size
    with pytest.raises(IndexError):
        space.unrank(space.size)


@given(st.integers(0, 8**40 - 1))
@PROPERTY
def test_rank_beyond_64_bits(index: int) -> None:
    assert HUGE.size == 8**40 > 2**64
    assert HUGE.rank(HUGE.unrank(index)) == index


# a block is what the fast axes span: 8**13 rows in the huge space
BLOCK = 8**13


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 3), (BLOCK - 2, BLOCK + 2), (5 * BLOCK**2 - 3, 5 * BLOCK**2 + 3), (8**40 - 4, 8**40), (7, 7)],
)
def test_rows_are_what_unrank_gives(start: int, stop: int) -> None:
    rows = HUGE.rows(start, stop)
    assert rows.shape == (stop - start, 40)
    assert rows.tolist() == [HUGE.unrank(i).tolist() for i in range(start, stop)]


@given(SPACES, st.integers(0, 50), st.sampled_from(["recipes", "axes"]))
@PROPERTY
def test_samples_are_rows(space: PruningSpace, n: int, measure: str) -> None:
    rows = space.sample(n, np.random.default_rng(0), measure)
    assert rows.shape == (n, len(space.axes))
    assert rows.dtype == np.int16
    assert ((rows >= 0) & (rows < np.array(space.shape))).all()
    assert rows.tolist() == space.sample(n, np.random.default_rng(0), measure).tolist()


def test_samples_are_uniform() -> None:
    space = space_of(chain([3, 4, 2, 1]), [1, 0.75, 0.5, 0.25])
    ranks = [space.rank(row) for row in space.sample(200 * space.size, np.random.default_rng(0))]
    assert chisquare(np.bincount(ranks, minlength=space.size)).pvalue > 0.001


@given(SPACES, st.integers(0, 2**32))
@PROPERTY
def test_neighbours_are_one_choice_away(space: PruningSpace, seed: int) -> None:
    row = space.sample(1, np.random.default_rng(seed))[0]
    found = [tuple(other) for other in space.neighbours(row).tolist()]
    everything = [tuple(space.unrank(i).tolist()) for i in range(space.size)]
    near = [other for other in everything if np.abs(np.array(other) - row).sum() == 1]
    assert sorted(found) == sorted(near)


@pytest.mark.parametrize(
    ("ratios", "kept"),
    [
        ([1, 0.75, 0.5, 0.4], (4, 3, 2)),
        ([0.5, 0.4], (2,)),
        ([0.01], (1,)),
        ([0.25, 1, 0.25], (4, 1)),
        ([0.375, 0.625, 0.875], (4, 3, 2)),  # halves round up
    ],
)
def test_ratios_of_one_width_are_one_choice(ratios: list[float], kept: tuple[int, ...]) -> None:
    assert space_of(chain([4, 2]), ratios).axes[0].ratios == tuple(steps / 4 for steps in kept)


@pytest.mark.parametrize(
    ("recipe", "member"),
    [
        (Recipe(), True),
        (Recipe.of({"l0": 0.5}), True),
        (Recipe.of({"l0": 0.45}), True),  # makes the same sub-network
        (Recipe.of({"l0": 0.25}), False),
        (Recipe.of({"l1": 0.5}), False),  # fixed
        (Recipe.of({"nothing": 0.5}), False),
        ("l0", False),
    ],
)
def test_membership(recipe: object, member: bool) -> None:
    assert (recipe in space_of(chain([4, 2]), [1, 0.5])) is member


def test_constraints_decide_members_but_not_size() -> None:
    space = PruningSpace.from_config(chain([8, 8, 2]), config([1, 0.5], constraints={"flops": 0.5}))
    inside = [i for i in range(space.size) if space[i] in space]
    assert 0 < len(inside) < space.size == 4
    assert list(space.enumerate()) == [space[i] for i in inside]


SHARED = Network(
    "shared",
    units=(ChannelUnit("a", 8, writers=("a", "b.conv")), ChannelUnit("c", 8, writers=("c",))),
    fixed=(FixedChannels("head", 10, "tied to the model's output"),),
)


def _entry(match: str, *ratios: float) -> dict[str, Any]:
    return {"match": match, "choices": [{"granularity": "filter", "ratios": list(ratios)}]}


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([_entry("*", 0.5)], {"a": (4,), "c": (4,)}),
        ([_entry("c", 0.25), _entry("*", 0.5)], {"a": (4,), "c": (2,)}),
        ([_entry("*", 0.5), _entry("c", 0.25)], {"a": (4,), "c": (4,)}),
        ([_entry("b.*", 0.5)], {"a": (4,)}),
        ([_entry("[ab]*", 0.5)], {"a": (4,)}),
    ],
)
def test_first_match_wins_and_any_writer_addresses(entries: list[Any], kept: dict[str, tuple[int, ...]]) -> None:
    space = PruningSpace.from_config(SHARED, {"channels": entries})
    assert {axis.name: axis.choices for axis in space.axes} == {unit: tuple(k / 8 for k in kept[unit]) for unit in kept}


def test_fixed_layers_that_match_are_listed() -> None:
    space = PruningSpace.from_config(SHARED, config([0.5]))
    assert space.skipped == (("channels: head", "tied to the model's output"),)
    assert PruningSpace.from_config(SHARED, config([0.5], match="c")).skipped == ()


def test_a_glob_that_decides_nothing_is_listed() -> None:
    entries = [config([0.5], match=match)["channels"][0] for match in ("c", "typo*")]  # type: ignore[index]
    space = PruningSpace.from_config(SHARED, {"channels": entries})
    assert [match for match, _ in space.skipped] == ["channels: typo*"]


def _choice(**choice: Any) -> dict[str, Any]:
    return {"channels": [{"match": "*", "choices": [choice]}]}


MISTAKES: list[tuple[Any, str]] = [
    (None, "expected a mapping"),
    ({}, "space: nothing to choose, expected a list in channels, weights, blocks"),
    ({"channels": "conv"}, "space.channels: expected a list"),
    ({"chanels": []}, "'chanels' is unknown, did you mean 'channels'? Allowed: channels, weights, blocks, constraints"),
    ({"channels": ["conv"]}, "space.channels[0]: expected the two keys match and choices, got 'conv'"),
    (
        {"channels": [{"macth": "*", "choices": []}]},
        "'macth' is unknown, did you mean 'match'? Allowed: match, choices",
    ),
    ({"channels": [{"match": "*"}]}, "expected the two keys match and choices"),
    ({"channels": [{"match": "*", "choices": 0.5}]}, "space.channels[0].choices: expected a list, got 0.5"),
    ({"channels": [{"match": "*", "choices": [0.5]}]}, "got 0.5"),
    (_choice(granularity="filtre", ratios=[1]), "'filtre' is unknown, did you mean 'filter'? Allowed: filter"),
    (_choice(granularity="filter", ratio=[1]), "'ratio' is unknown, did you mean 'ratios'?"),
    (_choice(granularity="filter", ratios=0.5), "ratios: expected a list, got 0.5"),
    (_choice(granularity="filter", ratios=[0]), "ratio 0 is not a share kept, allowed is 0 < ratio <= 1"),
    (_choice(granularity="filter", ratios=[1.5]), "ratio 1.5 is not"),
    (_choice(granularity="filter", ratios=[float("nan")]), "ratio nan is not"),
    (_choice(granularity="filter", ratios=["half"]), "ratio 'half' is not"),
    (_choice(granularity="filter", ratios=[True]), "ratio True is not"),
    (_choice(granularity="filter", ratios=[]), "no ratios given"),
    (_choice(granularity="filter"), "no ratios given"),
    (config([1], match="layer*"), "'layer*' matches none of the units a, c"),
    (
        {"channels": [_entry("a", 0.5), _entry("b*", 0.25)]},
        "'b.conv' write one unit but are given different",
    ),
    (config([1], constraints={"flop": 0.5}), "space.constraints: 'flop' is unknown, did you mean 'flops'?"),
    (config([1], constraints=0.5), "space.constraints: expected a mapping"),
    (config([1], constraints={"flops": -1}), "space.constraints.flops: -1 is no amount"),
]


@pytest.mark.parametrize(("given_config", "words"), MISTAKES)
def test_mistakes_are_one_line(given_config: Any, words: str) -> None:
    with pytest.raises(PruningError) as caught:
        PruningSpace.from_config(SHARED, given_config)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("space")


@pytest.mark.parametrize("fixed", [(), SHARED.fixed])
def test_nothing_to_prune_says_why(fixed: tuple[FixedChannels, ...]) -> None:
    with pytest.raises(PruningError, match="has nothing to prune") as caught:
        PruningSpace.from_config(Network("net", fixed=fixed), config([0.5]))
    assert all(entry.reason in str(caught.value) for entry in fixed)


def test_of_many_reasons_three_are_said() -> None:
    fixed = [FixedChannels(f"l{i}", 3, f"reason {min(i, 4)}") for i in range(9)]
    with pytest.raises(PruningError) as caught:
        PruningSpace.from_config(Network("net", fixed=tuple(fixed)), config([0.5]))
    said = "(channels: l0: reason 0; channels: l1: reason 1; channels: l2: reason 2; 2 more)"
    assert str(caught.value).endswith(said)


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ("channels", "expected a mapping with channels"),
        ({"channels": {"a": 0.5}, "block": {}}, "'block' is unknown"),
        ({"channels": {"a": 0}}, "channels.a: ratio 0"),
        ({"channels": {"a": "x"}}, "channels.a: ratio 'x'"),
    ],
)
def test_mistakes_in_recipes(plain: Any, words: str) -> None:
    with pytest.raises(PruningError) as caught:
        Recipe.from_dict(plain)
    assert words in str(caught.value)


def test_rows_of_foreign_recipes_are_refused() -> None:
    space = space_of(chain([4, 2]), [1, 0.5])
    for recipe, words in [(Recipe.of({"l0": 0.75}), "l0 kept 0.75 is no choice"), (Recipe.of({"l9": 0.5}), "unknown")]:
        with pytest.raises(PruningError, match=words):
            space.row(recipe)
    with pytest.raises(PruningError, match="measure"):
        space.sample(1, np.random.default_rng(0), "recipe")
    entry = config([0.5], match="l0")
    with pytest.raises(PruningError, match="leaves l1 dense"):
        PruningSpace.from_config(chain([4, 4, 2]), entry).row(Recipe.of({"l0": 0.5, "l1": 0.5}))


def test_uniform_is_the_nearest_choice_on_every_axis() -> None:
    space = space_of(chain([8, 8, 8, 2]), [1, 0.5, 0.25])
    assert [space.uniform(ratio).tolist() for ratio in (1, 0.75, 0.6, 0.3, 0)] == [[i] * 3 for i in (0, 0, 1, 2, 2)]
