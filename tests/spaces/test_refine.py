"""Refinement: bands become constraints and fewer choices, in a file that gives the refined space again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings

from spaces import Budget, Pattern, PruningError, PruningSpace, Refinement, refine, space_file_of
from tests.spaces.test_mixed_space import LARGE, NETWORK, SMALL
from tests.support.synthetic import SPACES, chain, config, space_of


def refined(
    space: PruningSpace, bands: dict[str, tuple[float, float]], **options: Any
) -> tuple[Refinement, PruningSpace]:
    found = refine(space, bands, np.random.default_rng(0), **options)
    return found, PruningSpace.from_config(space.network, yaml.safe_load(found.to_yaml()))


@given(SPACES)
@settings(max_examples=40, deadline=None)
def test_a_space_is_written_and_read_again(space: PruningSpace) -> None:
    again = PruningSpace.from_config(space.network, yaml.safe_load(yaml.safe_dump(space_file_of(space))))
    assert again.axes == space.axes


@pytest.mark.parametrize("space", [SMALL, LARGE])
def test_patterns_blocks_and_constraints_are_written_too(space: PruningSpace) -> None:
    limited = PruningSpace(space.network, space.axes, Budget.parse({"flops": [0.2, 0.8], "rho": [0.5, 2]}))
    again = PruningSpace.from_config(space.network, space_file_of(limited))
    assert (again.axes, again.constraints) == (limited.axes, limited.constraints)


def test_bands_leave_what_is_inside() -> None:
    bands = {"rho": (0.91234, 1.1), "channels.b1.a": (0.4, 0.6), "weights.b1.b": (0.5, 1), "blocks.b1": (1, 1)}
    found, space = refined(SMALL, bands)
    axes = {axis.label: axis.choices for axis in space.axes}
    assert axes["channels.b1.a"] == (0.5,)
    assert axes["weights.b1.b"] == (None, Pattern("element", 0.5))
    assert axes["blocks.b1"] == (1,)
    assert axes["channels.b2.a"] == next(a.choices for a in SMALL.axes if a.label == "channels.b2.a")
    assert space.constraints == Budget.parse({"rho": [0.9123, 1.1]})
    assert found.narrowed == ("rho", "channels.b1.a", "weights.b1.b", "blocks.b1")
    rows = space.rows(0, space.size)
    inside = [space.recipe(row) for row in rows[space.inside(rows, space.constraints)]]
    assert found.after.value == len(inside)
    assert found.before.value == SMALL.size
    assert found.share == len(inside) / SMALL.size
    assert all(recipe in SMALL for recipe in inside)
    assert f"exactly {len(inside)} of {SMALL.size} recipes" in found.to_yaml()


def test_an_axis_without_a_choice_inside_keeps_the_nearest() -> None:
    found, space = refined(SMALL, {"channels.b1.a": (0.6, 0.7)})
    assert next(axis.choices for axis in space.axes if axis.label == "channels.b1.a") == (0.5,)
    assert found.narrowed == ("channels.b1.a",)


def test_a_band_that_holds_all_narrows_nothing() -> None:
    found, space = refined(SMALL, {"channels.b1.a": (0, 1)})
    assert found.narrowed == ()
    assert found.share == 1
    assert space.axes == SMALL.axes


def test_the_regime_is_kept_and_joined_with_constraints() -> None:
    limited = PruningSpace(NETWORK, SMALL.axes, Budget.parse({"flops": [0.3, 0.9], "params": "40", "rho": [0.9, 3]}))
    regime = Budget.regime(0.5, 0.1) & Budget.parse({"params": 0.9})
    config = space_file_of(limited)
    assert config["constraints"]["params"] == [0, 40]
    found, space = refined(SMALL, {"rho": (0.97, 1.3)}, budget=regime)
    assert {m: (low, high) for m, low, high in space.constraints.bounds} == {
        "flops": (0.4, 0.6), "params": (0, 0.9), "rho": (0.97, 1.3)
    }  # fmt: skip
    assert 0 < found.after.value < found.before.value < SMALL.size
    with pytest.raises(PruningError, match=r"refine: rho above 0\.9 and below 0\.5"):
        refine(limited, {"rho": (0.1, 0.5)}, np.random.default_rng(0))


def test_the_size_of_a_large_refined_space_is_estimated() -> None:
    wide = space_of(chain([64] * 26), [i / 8 for i in range(1, 9)])
    found = refine(wide, {"channels.l0": (0.5, 1)}, np.random.default_rng(0), budget=Budget.regime(0.05, 0.001))
    assert 0 < found.after.low <= found.after.value <= found.after.high < found.before.value
    assert " of " in found.to_yaml().splitlines()[0]


def test_names_with_signs_of_globs_are_taken_literally() -> None:
    assert space_file_of(space_of(chain([4, 2], name="x"), [1, 0.5]))["channels"][0]["match"] == "l0"
    from spaces.neighbourhood import _literal

    assert _literal("a[0].*") == "a[[]0].[*]"


@pytest.mark.parametrize(
    ("bands", "words"),
    [
        ({"roh": (0, 1)}, "refine: 'roh' is unknown, did you mean 'rho'? Allowed: rho, channels"),
        ({"rho": (2, 1)}, "refine.rho: [2, 1] leaves nothing, allowed is low <= high"),
        ({"rho": (float("nan"), 1)}, "refine.rho: [nan, 1] leaves nothing"),
        ({"rho": (30, 40)}, "refine: no recipe is left, allowed are wider bands than"),
    ],
)
def test_mistakes_are_one_line(bands: dict[str, tuple[float, float]], words: str) -> None:
    with pytest.raises(PruningError) as caught:
        refine(SMALL, bands, np.random.default_rng(0))
    assert words in str(caught.value)


def test_a_refined_file_is_a_valid_space_file() -> None:
    found, _ = refined(SMALL, {"rho": (0.9, 1.1)})
    PruningSpace.check(found.config)
    assert config([1])["channels"]
