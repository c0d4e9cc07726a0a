"""Checks of single values: what is allowed passes in silence, everything else is one line."""

from __future__ import annotations

import math

import pytest

from explorer.search.ladder import checked_ladder
from explorer.utils.checks import checked_number
from spaces import Budget, Pattern, PruningError


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (0, {"least": 0}),
        (2**63 - 1, {"least": 0}),
        (0.5, {"least": 0, "whole": False, "above": True}),
        (3, {"least": 0, "whole": False}),
        (None, {"least": 1, "optional": True}),
        (8, {"least": 1, "most": 8}),
    ],
)
def test_numbers_that_are_allowed_pass(value, rule):
    checked_number("key", value, **rule)


@pytest.mark.parametrize(
    ("value", "rule", "allowed"),
    [
        (-1, {"least": 0}, "-1, allowed is a whole number >= 0"),
        (True, {"least": 0}, "True, allowed is a whole number >= 0"),
        (None, {"least": 0}, "None, allowed is a whole number >= 0"),
        ("3", {"least": 0}, "'3', allowed is a whole number >= 0"),
        (0, {"least": 0, "whole": False, "above": True}, "0, allowed is a number > 0"),
        (math.nan, {"least": 0, "whole": False}, "nan, allowed is a number >= 0"),
        (math.inf, {"least": 0, "whole": False}, "inf, allowed is a number >= 0 and <= 3.4e+38"),
        (1e39, {"least": 0, "whole": False}, "1e+39, allowed is a number >= 0 and <= 3.4e+38"),
        (2**63, {"least": 0}, f"{2**63}, allowed is a whole number >= 0 and <= 9.223e+18"),
        pytest.param(
            10**6000, {"least": 0}, "a number of 19932 bits, allowed is a whole number >= 0 and <= 9.223e+18", id="long"
        ),
        (10**400, {"least": 0, "whole": False}, "a number of 1329 bits, allowed is a number >= 0 and <= 3.4e+38"),
        (9, {"least": 1, "most": 8}, "9, allowed is a whole number >= 1 and <= 8"),
    ],
)
def test_other_values_are_one_line(value, rule, allowed):
    with pytest.raises(PruningError) as caught:
        checked_number("key", value, **rule)
    assert str(caught.value) == f"key: {allowed}"


@pytest.mark.parametrize("ladder", [1_000_000, [0.5] * 10_001, 2**64, -1, [0.5, 2], "half", [math.nan]])
def test_ladders_are_bounded(ladder):
    with pytest.raises(PruningError, match=r"^ladder: ") as caught:
        checked_ladder(ladder)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("width", [2**63, 2**31, 10**30])
def test_sizes_of_patterns_are_bounded(width):
    with pytest.raises(PruningError, match=r"width: \d+, allowed is a whole number >= 1 and <= 2147483647"):
        Pattern.of({"granularity": "tile", "width": width, "ratio": 0.5}, "space")


def test_a_budget_beyond_all_numbers_is_refused():
    with pytest.raises(PruningError, match=r"^budget\.flops: .* is no amount"):
        Budget.parse({"flops": 10**400})
