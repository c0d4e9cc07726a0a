"""What finished runs tell: their data functions, on studies of which the answers are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from explorer.analysis.looks import looks_of
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.studies import (
    attainment,
    axis_importance,
    composition,
    frontier_ratios,
    groups_of,
    hypervolume_bands,
    hypervolume_curve,
    importance_words,
    read_results,
    read_study,
    recipe_text,
    rung_pairs,
    rung_words,
    series_of,
    widths,
)
from explorer.analysis.tables import Scale
from spaces import PruningError, PruningSpace, Recipe
from tests.support.study_folders import network_of, write_study

MIXED = {
    "channels": [{"match": "l0", "choices": [{"granularity": "filter", "ratios": [1, 0.5, 0.25]}]}],
    "weights": [
        {
            "match": "l1",
            "choices": [{"granularity": "none"}, {"granularity": "tile", "width": 8, "ratios": [0.5, 0.25]}],
        },
        {"match": "l2", "choices": [{"granularity": "vector", "n": 2, "m": 4}, {"granularity": "none"}]},
    ],
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A multirun of two spaces and three seeds."""
    root = tmp_path_factory.mktemp("sweep")
    for seed in range(3):
        write_study(root / f"filter-{seed}", "space=filter", seed=seed)
        write_study(root / f"tile-{seed}", "space=tile", "space.width=8", seed=seed, worse=0.1)
    return root


def test_every_job_of_a_multirun_is_read_and_those_that_differ_are_called_by_it(sweep):
    results, left = read_results([sweep])
    assert (len(results), left) == (6, [])
    assert list(groups_of(results)) == ["resnet_digits on digits"]
    assert dict(zip(series_of(results), (result.config["space"]["name"] for result in results), strict=True)) == {
        "filter": "filter",
        "tile": "tile",
    }
    again, _ = read_results([sweep, sweep / "filter-0"])
    assert len(again) == 6, "a folder that is given twice is read once"


def test_a_folder_of_everything_is_all_runs_and_jobs_in_it(tmp_path):
    write_study(tmp_path / "alone")
    write_study(tmp_path / "sweep" / "job", seed=1)
    (tmp_path / "sweep" / "jobs.csv").touch()
    (tmp_path / "other").mkdir()
    assert [result.name for result in read_results([tmp_path])[0]] == ["alone", "job"]


def test_series_are_called_by_what_differs_besides_seeds(tmp_path):
    runs = [
        write_study(tmp_path / "a", "sampler=tpe", seed=0),
        write_study(tmp_path / "b", "sampler=tpe", seed=1),
        write_study(tmp_path / "c", "sampler=qmc", "budget.flops=0.9", seed=0, trials=30),
    ]
    results = [read_study(folder) for folder in runs]
    assert series_of(results) == ["tpe budget.flops=None", "tpe budget.flops=None", "qmc budget.flops=0.9"]
    assert series_of(results[:2]) == ["filter", "filter"]
    twice = read_study(write_study(tmp_path / "other" / "a", "sampler=tpe", seed=0))
    assert series_of([results[0], twice]) == [f"filter ({tmp_path.name})", "filter (other)"]


def test_what_does_not_compare_is_parted(tmp_path):
    results = [
        read_study(write_study(tmp_path / "a")),
        read_study(write_study(tmp_path / "b", "model=vit_digits")),
        read_study(write_study(tmp_path / "c", seed=1)),
    ]
    groups = groups_of(results)
    assert {title: len(members) for title, members in groups.items()} == {
        "resnet_digits on digits": 2,
        "vit_digits on digits": 1,
    }


@pytest.mark.parametrize("rungs", [1, 3])
def test_the_last_of_the_hypervolumes_is_the_studys(tmp_path, rungs):
    result = read_study(write_study(tmp_path, rungs=rungs))
    curve = hypervolume_curve(result.trials, result.scale)
    assert curve["trial"].tolist() == list(range(1, 41))
    assert curve["hypervolume"].iloc[-1] == pytest.approx(result.summary["hypervolume"])
    assert curve["hypervolume"].is_monotonic_increasing
    for count in (0, 1, 7) if rungs == 1 else (0,):
        expected = result.scale.hypervolume(result.trials.iloc[:count])
        assert expected == pytest.approx(curve["hypervolume"].iloc[count - 1] if count else 0)


def test_bands_go_from_the_least_to_the_greatest_seed_and_end_with_the_shortest():
    curves = [
        pd.DataFrame({"trial": range(1, n + 1), "hypervolume": values}) for n, values in ((3, [1, 2, 3]), (2, [3, 4]))
    ]
    bands = hypervolume_bands({"a": curves, "b": []})
    assert bands[["series", "trial", "median", "low", "high", "seeds"]].to_numpy().tolist() == [
        ["a", 1, 2, 1, 3, 2],
        ["a", 2, 3, 2, 4, 2],
    ]
    assert not len(hypervolume_bands({}))


def test_attainment_is_what_some_half_and_all_seeds_reach(sweep):
    results = [one for one in read_results([sweep])[0] if one.config["space"]["name"] == "filter"]
    stairs = attainment(results)
    assert set(stairs["level"]) == {"some", "half", "all"}

    def reach(points: pd.DataFrame, x: float) -> float:
        return points.loc[points.iloc[:, 0] <= x].iloc[:, 1].min()

    for x in np.linspace(0.05, 1, 9):
        each = sorted(reach(one.finished[["flops_ratio", "error"]], x) for one in results)
        found = {level: reach(part[["x", "y"]], x) for level, part in stairs.groupby("level")}
        for level, expected in zip(("some", "half", "all"), each, strict=True):
            assert found[level] == pytest.approx(expected, nan_ok=True)
    assert not len(attainment(results[:1]))


def test_the_axis_that_alone_decides_the_error_is_the_most_important(tmp_path):
    result = read_study(write_study(tmp_path, trials=80))
    found = axis_importance(result.space, [result.finished])
    assert found.table["axis"].iloc[0] == "channels.l1"
    assert found.table["share"].iloc[0] > 0.8
    assert found.table["share"].sum() == pytest.approx(1)
    assert found.explained > 0.8
    assert importance_words(found).startswith("channels.l1 (")
    few = read_study(write_study(tmp_path / "few", trials=10))
    assert axis_importance(few.space, [few.finished]) is None
    assert axis_importance(few.space, []) is None


def test_errors_that_no_axis_decides_have_no_important_axis(tmp_path):
    result = read_study(write_study(tmp_path, trials=60))
    rng = np.random.default_rng(0)
    drawn = result.finished.assign(error=rng.random(len(result.finished)))
    assert "do not tell" in importance_words(axis_importance(result.space, [drawn]))


def test_what_a_recipe_keeps_layer_by_layer():
    network = network_of()
    recipe = Recipe.of({"l0": 0.5}, {"l1": {"granularity": "tile", "width": 8, "ratio": 0.5}})
    table = composition(network, recipe)
    assert table["layer"].tolist() == [layer.name for layer in network.layers]
    assert table[["dense", "kept"]].iloc[:3].to_numpy().tolist() == [[32, 16], [32, 32], [32, 32]]
    assert table["granularity"].tolist()[:3] == ["filter", "filter + tile(width=8) 0.5", "dense"]
    assert table["share"].tolist()[:3] == [1, 0.5, 1]


TIED = {
    "channels": [{"match": "*", "choices": [{"granularity": "filter", "ratios": [1, 0.6, 0.3]}]}],
    "tie": ["l[01]"],
    "divisor": 8,
}


@pytest.mark.parametrize("plain", [MIXED, {"channels": MIXED["channels"]}, TIED])
def test_widths_of_many_recipes_are_those_of_each(plain):
    network = network_of()
    space = PruningSpace.from_config(network, plain)
    rows = space.rows(0, space.size)
    each = [composition(network, space.recipe(row))["kept"].tolist() for row in rows]
    assert widths(space, rows).tolist() == each


def test_the_text_of_a_recipe_is_its_yaml():
    space = PruningSpace.from_config(network_of(), MIXED)
    odd = Recipe.of(
        {"on": 0.5, "1": 0.25, "a: b": 0.75}, {"no": {"granularity": "tile_element", "ratio": 0.3}}, ["yes"]
    )
    for recipe in (*space.enumerate(), odd, Recipe()):
        assert recipe_text(recipe) == recipe.to_yaml()


def test_ratios_of_the_frontier_are_those_of_its_recipes_cheapest_first(tmp_path):
    result = read_study(write_study(tmp_path, "space=tile", "space.width=8"))
    table = frontier_ratios(result.front, result.space)
    first = table[table["place"] == 0]
    cheapest = result.front.sort_values("flops_ratio").iloc[0]
    assert set(first["trial"]) == {cheapest["trial"]}
    recipe = result.folder.recipe(result.folder.point(cheapest["trial"]))
    for _, row in first.iterrows():
        pattern = recipe.patterns.get(row["axis"].removeprefix("weights."))
        assert (row["ratio"], row["choice"]) == ((1, "dense") if pattern is None else (pattern.ratio, str(pattern)))
    assert frontier_ratios(result.front, result.space, most=2)["place"].max() == 1


def test_errors_of_two_rungs_are_paired(tmp_path):
    result = read_study(write_study(tmp_path, rungs=3))
    pairs = rung_pairs(result.trials)
    assert set(pairs["rungs"]) == {"0-1", "1-2"}
    assert (pairs["lower"] >= pairs["higher"]).all()
    counts = pairs["rungs"].value_counts().to_dict()
    assert counts == {rungs: found["recipes"] for rungs, found in result.summary["tau"].items()}
    assert [sentence[:10] for sentence in rung_words(result.summary["tau"])] == ["Rungs 0-1:", "Rungs 1-2:"]
    assert not len(rung_pairs(read_study(write_study(tmp_path / "one")).trials))


def test_each_series_has_a_look_that_no_other_has():
    looks = looks_of(str(place) for place in range(24))
    assert len({(look.colour, look.marker) for look in looks.values()}) == 24
    assert len({look.colour for look in list(looks.values())[:7]}) == 7


def edited(folder: RunFolder, name: str, old: str, new: str) -> None:
    path = folder.path / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGE = {
    "no summary": (lambda f: (f.path / "summary.json").unlink(), "has not ended once"),
    "no configuration": (lambda f: (f.path / "config.yaml").unlink(), "config.yaml not there or cut"),
    "a cut network": (lambda f: (f.path / "network.yaml").write_text("name: x\n"), "network.yaml not there or cut"),
    "no table": (lambda f: (f.path / "trials.parquet").unlink(), "trials.parquet not there or cut"),
    "another scale": (lambda f: edited(f, "summary.json", '"scale": 100', '"scale": "x"'), "another version"),
    "no reference": (lambda f: edited(f, "config.yaml", "  hypervolume_reference", "  volume"), "another version"),
    "no numbers": (
        lambda f: edited(f, "frontier.csv", ",COMPLETE,,ladder,0,", ",COMPLETE,,ladder,zero,"),
        "no numbers",
    ),
    "no choice": (
        lambda f: edited(f, "config.yaml", "\nsampler:\n  name: frontier", "\nsampler:\n  title: x"),
        "version",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_one_line(tmp_path, damage):
    folder = write_study(tmp_path / "sweep" / "a")
    other = write_study(tmp_path / "sweep" / "b", seed=1)
    break_it, words = DAMAGE[damage]
    break_it(folder)
    with pytest.raises(PruningError, match=words) as caught:
        read_study(folder)
    assert "\n" not in str(caught.value)
    results, left = read_results([tmp_path / "sweep"])
    assert [result.name for result in results] == [other.name]
    # a job without its configuration cannot be known
    assert [one.name for one in left] == ([] if damage == "no configuration" else ["a"])


def test_a_folder_without_runs_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for name, words in (("none", "no folder"), ("file", "no folder"), (".", "neither a run nor")):
        with pytest.raises(PruningError, match=words):
            read_results([tmp_path / name])
    write_study(tmp_path / "sweep" / "a").path.joinpath("trials.parquet").unlink()
    with pytest.raises(PruningError, match=r"no run in .* can be read"):
        read_results([tmp_path / "sweep"])


def test_a_study_in_which_all_failed_has_no_figures_and_no_error(tmp_path):
    result = read_study(write_study(tmp_path, trials=5, failed=5))
    assert hypervolume_curve(result.trials, result.scale)["hypervolume"].tolist() == [0] * 5
    assert axis_importance(result.space, [result.finished]) is None
    assert not len(frontier_ratios(result.front, result.space))
    assert not len(attainment([result, result]))
    assert Scale(["error", "flops"], {}).hypervolume(result.trials) == 0
