"""The knee of a frontier, and trials asked for by their number."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from explorer.analysis.selection import knee, trial_row
from spaces import PruningError


def front(points: list[tuple[float, float]]) -> pd.DataFrame:
    table = pd.DataFrame(points, columns=["flops_ratio", "error"]).sort_values("flops_ratio", ignore_index=True)
    return table.assign(trial=range(len(table)))


def test_the_knee_is_furthest_below_the_line_between_the_ends() -> None:
    points = front([(0.1, 0.9), (0.3, 0.3), (0.5, 0.2), (1.0, 0.1)])
    # scaled: below the line by 1 - x - y
    assert knee(points, "flops_ratio")["flops_ratio"] == 0.3
    # neither the unit nor the size of either axis matters
    stretched = points.assign(flops_ratio=1e9 * points["flops_ratio"], error=points["error"] / 7 + 3)
    assert knee(stretched, "flops_ratio")["trial"] == 1


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=3, max_size=12))
def test_it_is_the_point_of_the_greatest_distance(points: list[tuple[float, float]]) -> None:
    costs, errors = sorted({x for x, _ in points}), sorted({y for _, y in points}, reverse=True)
    table = front(list(zip(costs, errors, strict=False)))
    x, y = table["flops_ratio"].to_numpy(), table["error"].to_numpy()
    if len(table) < 2:
        assert knee(table, "flops_ratio")["trial"] == 0
        return
    span = [max(np.ptp(v), 1e-300) for v in (x, y)]
    far = 1 - (x - x.min()) / span[0] - (y - y.min()) / span[1]
    if far.max() <= 1e-9:
        with pytest.raises(PruningError, match="knee: no frontier point lies below the line"):
            knee(table, "flops_ratio")
    else:
        assert far[int(knee(table, "flops_ratio")["trial"])] == far.max()


def test_one_point_is_the_knee_two_have_none_and_none_is_said() -> None:
    assert knee(front([(0.5, 0.2)]), "flops_ratio")["error"] == 0.2
    with pytest.raises(PruningError, match="knee: no frontier point lies below"):
        knee(front([(0.5, 0.2), (1.0, 0.1)]), "flops_ratio")
    with pytest.raises(PruningError, match="frontier: no point is on it"):
        knee(front([]), "flops_ratio")


def test_of_two_equally_far_the_cheaper_is_taken() -> None:
    points = front([(0.0, 1.0), (0.25, 0.25), (0.5, 0.0), (1.0, 0.0)])
    assert knee(points, "flops_ratio")["flops_ratio"] == 0.25


def test_a_trial_is_named_by_its_number() -> None:
    table = pd.DataFrame(
        {"trial": [0, 1, 2], "state": ["COMPLETE", "FAIL", "COMPLETE"], "reason": [None, "NaN loss", None]}
    )
    assert trial_row(table, 2)["trial"] == 2
    with pytest.raises(PruningError, match=r"trial: 1 failed \(NaN loss\), allowed are those that ended well"):
        trial_row(table, 1)
    with pytest.raises(PruningError, match="trial: 7, allowed are those that there are: 0 to 2"):
        trial_row(table, 7)
