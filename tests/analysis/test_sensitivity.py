"""The table of what each choice alone changes, and its heat maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from explorer.analysis.plots import draw_sensitivity, save, sensitivity_data, sensitivity_figure
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.sensitivity import sensitivity_table
from spaces import PruningSpace, costs_of
from tests.support.synthetic import chain, config

RATIOS = [1, 0.75, 0.5, 0.25]
PATTERNS = {
    "match": "*",
    "choices": [
        {"granularity": "none"},
        {"granularity": "element", "ratios": [0.75, 0.5]},
        {"granularity": "block", "height": 4, "width": 4, "ratios": [0.75, 0.35]},
    ],
}


def space_of(**more: object) -> PruningSpace:
    return PruningSpace.from_config(chain([8, 12, 16, 6], positions=4), config(RATIOS, **more))


def table_of(space: PruningSpace) -> pd.DataFrame:
    changes = [np.array([(1 - ratio) ** 2 for ratio in axis.ratios]) for axis in space.axes]
    return sensitivity_table(space, changes, [np.ones(len(table), dtype=bool) for table in changes])


@pytest.mark.parametrize("more", [{}, {"weights": [PATTERNS]}], ids=["filter", "mixed"])
def test_a_row_is_a_choice_with_the_costs_of_the_recipe_that_makes_it_alone(more):
    space = space_of(**more)
    table = table_of(space)
    assert len(table) == sum(space.shape)
    assert list(table) == ["axis", "layer", "granularity", "ratio", "change", "measured", "flops", "params"]
    place = 0
    for number, axis in enumerate(space.axes):
        for choice in range(len(axis.choices)):
            row = np.zeros(len(space.axes), dtype=np.int16)
            row[number] = choice
            costs, found = costs_of(space.network, space.recipe(row)), table.iloc[place]
            assert (found["axis"], found["layer"], found["ratio"]) == (axis.label, axis.name, axis.ratios[choice])
            assert found["flops"] == costs["flops"] / space.dense["flops"]
            assert found["params"] == costs["params"] / space.dense["params"]
            place += 1
    assert (table["change"][table["ratio"] == 1] == 0).all()


def test_the_file_gives_the_table_again(tmp_path):
    table = table_of(space_of(weights=[PATTERNS]))
    folder = RunFolder(tmp_path)
    assert folder.sensitivity() is None
    folder.write_sensitivity(table)
    pd.testing.assert_frame_equal(folder.sensitivity(), table)


def test_a_map_has_every_change_once_where_its_layer_and_ratio_are():
    table = table_of(space_of(weights=[PATTERNS]))
    maps = sensitivity_data(table)
    assert list(maps) == ["filter", "element", "block(height=4, width=4)"]
    assert list(maps["filter"].index) == ["l0", "l1", "l2"]
    assert list(maps["filter"].columns) == [0.75, 0.5, 0.25]
    for name, one in maps.items():
        mine = table[(table["granularity"] == name) & (table["ratio"] < 1)]
        assert sorted(one.to_numpy()[one.notna()]) == pytest.approx(sorted(mine["change"]))
        # whole blocks realise .35 differently in each layer, in one column
        assert all((np.diff(one.columns) < 0).tolist())
        for _, row in mine.iterrows():
            column = np.abs(one.columns - row["ratio"]).argmin()
            assert one.loc[row["layer"]].iloc[column] == row["change"]


def test_maps_of_a_mixed_space_share_their_layers_and_are_drawn(tmp_path):
    table = table_of(space_of(weights=[PATTERNS]))
    maps = sensitivity_data(table)
    assert maps["element"].index.equals(maps["block(height=4, width=4)"].index)
    ax = draw_sensitivity(maps["filter"], Figure().add_subplot(), LogNorm(1e-3, 1))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["l0", "l1", "l2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == [".75", ".5", ".25"]
    assert ax.images[0].get_array().shape == (3, 3)
    figure = sensitivity_figure(table, title="chain")
    assert len(save(figure, tmp_path / "sensitivity")) == 3


def test_changes_of_nothing_are_drawn_too():
    table = table_of(space_of())
    assert sensitivity_figure(table.assign(change=0.0)) is not None
