"""The report's figures of axes: cells of what they are given, names that no two share."""

from __future__ import annotations

import pandas as pd

from explorer.analysis.report.maps import importance_drawing, sensitivity_drawing


def test_ratios_that_are_realised_a_little_differently_share_a_column():
    table = pd.DataFrame(
        {"layer": ["a", "b", "a"], "granularity": "tile", "ratio": [0.3501, 0.3499, 0.25], "change": [0.1, 0.2, 0.3]}
    )
    assert sensitivity_drawing(table).x_range.factors == ["0.35", "0.25"]


def test_long_names_that_end_alike_stay_two():
    names = [f"channels.{'x' * 40}.{first}{'y' * 30}" for first in "ab"]
    factors = importance_drawing(pd.DataFrame({"axis": names, "share": [0.6, 0.4]})).y_range.factors
    assert len(set(factors)) == 2


def test_a_name_is_no_formula():
    drawn = importance_drawing(pd.DataFrame({"axis": ["$$x$$", "\\(y\\)"], "share": [0.6, 0.4]}))
    assert not any(mark in name for name in drawn.y_range.factors for mark in ("$$", "\\(", "\\)"))
