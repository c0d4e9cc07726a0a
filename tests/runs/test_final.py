"""Frontier points retrained: chosen by cost, measured on test, nothing done twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
import torch
from hypothesis import given
from torch import nn

from explorer import data
from explorer.analysis.selection import telling
from explorer.data.task import classification
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.retraining import retrain
from explorer.evaluation.settings import Settings
from explorer.pruning.criteria import score
from explorer.tracing import trace
from spaces import PruningError, Recipe

RECIPES = {"trial-0001": Recipe.of({"1": 0.5}), "trial-0004": Recipe.of({"1": 0.25})}


@pytest.mark.parametrize(
    ("values", "points", "places"),
    [
        ([], 3, []),
        ([(0.5, 0.5)], 3, [0]),
        ([(0.5, 0.2), (0.3, 0.5), (0.2, 0.7)], 0, []),
        ([(0.5, 0.2), (0.3, 0.5), (0.2, 0.7)], 3, [0, 1, 2]),
        # next to chance, three that are alike, and one far on
        ([(0.9, 0.01), (0.30, 0.2), (0.29, 0.21), (0.28, 0.22), (0.1, 0.6)], 2, [3, 4]),
        ([(0.9, 0.01), (0.30, 0.2), (0.29, 0.21), (0.28, 0.22), (0.1, 0.6)], 1, [3]),
    ],
)
def test_points_that_tell_most_are_chosen(values: list[tuple[float, float]], points: int, places: list[int]) -> None:
    assert telling(values, points) == places


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), max_size=12), st.integers(0, 6))
def test_more_points_keep_more(values: list[tuple[float, float]], points: int) -> None:
    places, more = telling(values, points), telling(values, points + 1)
    assert len(set(places)) == len(places) == min(points, len(values))
    assert places == sorted(places)
    assert set(places) <= set(more)


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.load_digits()


@pytest.fixture(scope="module")
def finetuned(digits: data.Data) -> Finetuned:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    network = trace(model, torch.zeros(1, 1, 8, 8))
    calibration, validation = (
        list(data.Batches(part, 200, mean=digits.mean, std=digits.std)) for part in (digits.train, digits.validation)
    )
    evaluator = Inherited.of(model, network, score(model, network), calibration, validation, classification(10))
    batches = data.Batches(
        digits.train, 100, mean=digits.mean, std=digits.std, generator=torch.Generator(), crop=0, flip=False
    )
    return Finetuned(evaluator, batches, Settings(learning_rate=0.05), rungs=(0, 7), seed=3)


@pytest.fixture(scope="module")
def test_batches(digits: data.Data) -> list[data.Batch]:
    return list(data.Batches(digits.test, 200, mean=digits.mean, std=digits.std))


def table(finetuned: Finetuned, test_batches: list[data.Batch], folder: Path, **options: Any) -> pd.DataFrame:
    return retrain(finetuned, RECIPES, test_batches, **{"seeds": 3, "epochs": 2, "folder": folder, **options})


def test_means_and_spreads_are_those_of_single_trainings(finetuned, test_batches, tmp_path) -> None:
    done: list[tuple[int, str]] = []
    found = table(finetuned, test_batches, tmp_path, on_training=lambda *told: done.append(told)).set_index("point")
    assert list(found.index) == ["dense", *RECIPES]
    assert found.loc["dense", "flops_ratio"] == 1
    assert found["flops"].is_monotonic_decreasing
    assert (len(done), done[0]) == (9, (1, "dense, training 1 of 3"))
    task = finetuned.meter.task
    for point, recipe in RECIPES.items():
        row = found.loc[point]
        # not the seed that chose the frontier
        trainings = [replace(finetuned, rungs=(2,), seed=seed) for seed in (4, 5, 6)]
        values = pd.Series([task.evaluate(one.build(recipe), test_batches).error for one in trainings])
        assert [row[f"test_error_{n}"] for n in (1, 2, 3)] == values.tolist()
        assert row["test_error"] == pytest.approx(values.mean())
        assert row["test_error_sd"] == pytest.approx(values.std())
        assert (row["n"], row["epochs"], row["reason"]) == (3, 2, None)
        # the weights kept are of the least validation error
        kept = [one for one in trainings if replace(one, folder=tmp_path).kept(recipe).name == row["weights"]]
        errors = [task.evaluate(one.build(recipe), finetuned.meter.validation).error for one in trainings]
        assert task.evaluate(kept[0].build(recipe), finetuned.meter.validation).error == min(errors)
        assert row["error"] == pytest.approx(sum(errors) / 3)
    assert {path.name for path in tmp_path.glob("*.safetensors")} == set(found["weights"])
    assert not list(tmp_path.glob("*.state"))


def unread(*_: object) -> None:
    """Stand for the batches where nothing may be trained."""
    raise AssertionError("it is trained again")


def test_nothing_is_done_twice(finetuned, test_batches, tmp_path, monkeypatch) -> None:
    first = table(finetuned, test_batches, tmp_path, seeds=2)
    with monkeypatch.context() as patch:
        patch.setattr("explorer.evaluation.finetuning.epoch_of", unread)
        pd.testing.assert_frame_equal(first, table(finetuned, test_batches, tmp_path, seeds=2))
    more = table(finetuned, test_batches, tmp_path)
    assert more["test_error_2"].tolist() == first["test_error_2"].tolist()
    assert more["n"].tolist() == [3, 3, 3]
    single = table(finetuned, test_batches, tmp_path, seeds=1)
    assert single["test_error_sd"].isna().all()
    assert more["weights"].tolist() != single["weights"].tolist(), "the case must be one that lets the first go"
    for point, name in zip(["trial-0001", "trial-0004"], single["weights"][1:], strict=True):
        one = replace(finetuned, rungs=(2,), seed=4)
        kept = replace(one, folder=tmp_path)
        assert kept.kept(RECIPES[point]) == tmp_path / name
        assert kept.kept(RECIPES[point]).exists()
        x = test_batches[0][0]
        torch.testing.assert_close(kept.build(RECIPES[point])(x), one.build(RECIPES[point])(x), rtol=0, atol=0)


def test_results_that_the_power_tore_are_measured_again(finetuned, test_batches, tmp_path, monkeypatch) -> None:
    first = table(finetuned, test_batches, tmp_path, seeds=1)
    for path in tmp_path.glob("*.json"):
        path.write_text("")
    monkeypatch.setattr("explorer.evaluation.finetuning.epoch_of", unread)
    pd.testing.assert_frame_equal(first, table(finetuned, test_batches, tmp_path, seeds=1))


def test_interrupted_in_the_middle_of_a_training_it_ends_the_same(finetuned, test_batches, tmp_path) -> None:
    expected = table(finetuned, test_batches, tmp_path / "a")
    for stop in (1, 6, 11):
        count = 0

        def interrupt(_: Any, stop: int = stop) -> None:
            nonlocal count
            count += 1
            if count == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            table(replace(finetuned, on_epoch=interrupt), test_batches, tmp_path / str(stop))
        pd.testing.assert_frame_equal(expected, table(finetuned, test_batches, tmp_path / str(stop)))


def test_a_training_that_fails_is_told_and_tried_again(finetuned, test_batches, tmp_path) -> None:
    broken = replace(finetuned, settings=Settings(learning_rate=1e30))
    found = table(broken, test_batches, tmp_path, seeds=2)
    assert found["n"].tolist() == [0, 0, 0]
    assert found["reason"].str.contains("training: the loss became|evaluation: the mean loss is").all()
    assert found["weights"].isna().all()
    assert found["test_error"].isna().all()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_line(finetuned, test_batches, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PruningError, match=r"final: .* can't be written"):
        table(finetuned, test_batches, tmp_path / "file" / "final")
