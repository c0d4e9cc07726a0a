"""Two sets of runs compared seed by seed: known differences, fair pairs, and words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from explorer.analysis.studies import bootstrap_interval, compare_sets, read_results
from spaces import PruningError
from tests.support.study_folders import write_study


def sets(path, *, seeds=(0, 1, 2), worse: float = 0.1, first=("space=filter",), second=("space=filter",), **other):
    """Return two sets of runs of the same recipes, the second's errors all higher."""
    for seed in seeds:
        write_study(path / "a" / f"s{seed}", *first, seed=seed)
        write_study(path / "b" / f"s{seed}", *second, seed=seed, worse=worse, **other)
    return [read_results([path / name])[0] for name in "ab"]


def test_the_difference_that_was_put_there_is_found_with_its_interval(tmp_path):
    found = compare_sets(*sets(tmp_path), ("good", "bad"))
    assert found.pairs["pair"].tolist() == ["seed 0", "seed 1", "seed 2"]
    rows = found.differences.set_index("measure")
    assert rows["pairs"].tolist() == [3] * 4
    # the same recipes, so that each error is higher by just that
    assert rows.loc["0.75", "difference"] == pytest.approx(0.1)
    assert rows.loc["0.75", ["low", "high"]].tolist() == pytest.approx([0.1, 0.1])
    assert rows.loc["hypervolume", "difference"] < 0
    assert rows.loc["hypervolume", "high"] < 0
    volume, error, *_, few = found.words()
    assert "good is better by" in volume
    assert "good is better by 10.00" in error
    assert few.startswith("An interval of 3 pairs")


def test_sets_that_are_the_same_have_no_sure_difference(tmp_path):
    found = compare_sets(*sets(tmp_path, worse=0.0), ("a", "b"))
    assert (found.differences["difference"] == 0).all()
    assert all("no sure difference" in sentence for sentence in found.words()[:-1])


def test_one_pair_tells_no_interval(tmp_path):
    found = compare_sets(*sets(tmp_path, seeds=(4,)), ("a", "b"))
    assert found.differences["low"].isna().all()
    assert all("one pair of seeds tells no interval" in sentence for sentence in found.words())


def test_both_of_a_pair_are_looked_at_after_as_many_trials(tmp_path):
    a, b = sets(tmp_path, seeds=(0, 1), worse=0.0)
    found = compare_sets(a, [replace(run, trials=run.trials.iloc[:25]) for run in b], ("a", "b"))
    assert set(found.pairs["trials"]) == {25}
    assert found.differences["difference"].abs().max() == pytest.approx(0)


def test_runs_that_differ_in_more_than_seeds_are_paired_with_their_like(tmp_path):
    for sampler in ("tpe", "qmc"):
        for space in ("filter", "tile"):
            extra = ["space.width=8"] if space == "tile" else []
            write_study(tmp_path / sampler / space, f"sampler={sampler}", f"space={space}", *extra)
    write_study(tmp_path / "qmc" / "other", "sampler=qmc", "space=filter", seed=7)
    a, b = (read_results([tmp_path / name])[0] for name in ("tpe", "qmc"))
    found = compare_sets(a, b, ("tpe", "qmc"))
    assert [", filter" in pair or ", tile" in pair for pair in found.pairs["pair"]] == [True, True]
    assert any("seed 7" in sentence and "Without a partner in qmc" in sentence for sentence in found.left)


def test_sets_that_do_not_compare_are_refused(tmp_path):
    a, _ = sets(tmp_path / "x", seeds=(0,))
    _, b = sets(tmp_path / "y", seeds=(1,))
    with pytest.raises(PruningError, match="no run of 'a' has one of the same seed"):
        compare_sets(a, b, ("a", "b"))
    _, b = sets(tmp_path / "z", seeds=(0,), second=("model=vit_digits",))
    with pytest.raises(PruningError, match="two sets of one model"):
        compare_sets(a, b, ("a", "b"))
    with pytest.raises(PruningError, match="'a' has two runs of seed 0, allowed is one"):
        compare_sets([*a, *a], b, ("a", "b"))
    _, b = sets(tmp_path / "w", seeds=(0,), layers=5)
    assert "different network" in compare_sets(a, b, ("a", "b")).left[0]


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = [low <= 0 <= high for low, high in (bootstrap_interval(rng.normal(size=40)) for _ in range(200))]
    assert 0.88 <= np.mean(inside) <= 1
    assert np.isnan(bootstrap_interval([1.0])).all()
    assert bootstrap_interval([2.0, 2.0]) == (2, 2)
