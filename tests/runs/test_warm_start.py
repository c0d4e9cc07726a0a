"""What earlier studies measured: of the same recipes, whatever their space was."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from explorer.analysis.tables import observations, trials_table
from explorer.runs.warm_start import measured_before
from explorer.search.executors import Inline
from spaces import PruningError, PruningSpace
from tests.search.test_rungs import error_of, make_search
from tests.support.synthetic import chain, space_of

OBJECTIVES = ["error", "flops"]


def table(space: PruningSpace, tmp_path, **options):
    search = make_search(Inline(error_of), space=space, **options)
    search.run(25)
    # through a file, as another run's is read
    trials_table(space, search.records).to_parquet(tmp_path / "trials.parquet")
    return pd.read_parquet(tmp_path / "trials.parquet"), search


def test_a_study_of_the_same_space_is_known_whole_at_its_first_rung(tmp_path):
    space = space_of(chain([8] * 3 + [10]), (1, 0.75, 0.5, 0.25))
    trials, search = table(space, tmp_path, rungs=2)
    found = observations(trials, space, OBJECTIVES)
    assert found.rows.tolist() == [record.row.tolist() for record in search.records]
    first = [[*record.lower, record.metrics][0]["error"] for record in search.records]
    assert np.allclose(found.values[:, 0], first)
    assert np.allclose(found.values[:, 1], trials["flops_ratio"])
    promoted = trials["rung"].to_numpy() > 0
    assert promoted.any()
    assert np.isnan(found.error_se).tolist() == promoted.tolist()
    assert not found.rungs.any()


def test_of_another_space_the_recipes_that_are_in_both(tmp_path):
    wide = space_of(chain([8] * 3 + [10]), (1, 0.75, 0.5, 0.25))
    trials, search = table(wide, tmp_path)
    narrow = space_of(chain([8] * 3 + [10]), (1, 0.5))
    found = observations(trials, narrow, OBJECTIVES)
    both = [wide.recipe(r.row) for r in search.records if wide.recipe(r.row) in narrow]
    assert 0 < len(both) < len(search.records)
    assert [narrow.recipe(row) for row in found.rows] == both
    # a space that leaves a unit dense knows only recipes that do too
    part = PruningSpace(wide.network, wide.axes[:2])
    assert all(wide.recipe(r.row).ratios.get("l2", 1) == 1 for r in search.records if wide.recipe(r.row) in part)
    assert len(observations(trials, part, OBJECTIVES).rows) == sum(wide.recipe(r.row) in part for r in search.records)
    lean = space_of(chain([8] * 3 + [10]), (0.5, 0.25))
    assert len(observations(trials, lean, OBJECTIVES).rows) == sum(wide.recipe(r.row) in lean for r in search.records)


def test_nothing_measured_is_nothing_known(tmp_path):
    space = space_of(chain([8] * 3 + [10]), (1, 0.5))
    empty = trials_table(space, [])
    assert observations(empty, space, OBJECTIVES).rows.shape == (0, 3)


@pytest.mark.parametrize("config", [None, "", "identity: [", "identity: {model: x}", "facts: {network: n}"])
def test_a_folder_that_holds_no_run_is_one_line(tmp_path, config):
    space = space_of(chain([8] * 3 + [10]), (1, 0.5))
    (tmp_path / "trials.parquet").write_bytes(b"PAR1")
    if config is not None:
        (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(PruningError, match="holds no run to begin with") as caught:
        measured_before([tmp_path], space, OBJECTIVES, identity={}, network="n", data="d")
    assert "\n" not in str(caught.value)
