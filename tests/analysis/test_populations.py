"""Populations: every statistic against a known answer, and every mistake in one line."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from explorer.analysis.populations import (
    LEAST,
    Population,
    analyse,
    best_draws,
    check_comparable,
    common_optimum_p,
    compare,
    conjecture_table,
    edf,
    edf_table,
    fit_optimum,
    flops_bins,
    holm,
    layer_ratios,
    populations_of,
    profile_table,
    rank_correlations,
    read_populations,
    stages_of,
    structure_table,
    superiority,
    winner_bands,
    winners_of,
)
from spaces import PruningError
from tests.support.populations import DENSE, made_up, population

ERRORS = st.lists(st.sampled_from([0.1, 0.15, 0.2, 0.3, 0.5, 0.9]), min_size=1, max_size=30)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


# distributions


@given(ERRORS)
def test_the_edf_is_its_definition_and_scipys(errors: list[float]) -> None:
    at = [0.0, 0.1, 0.12, 0.2, 0.4, 1.0]
    assert edf(errors, at).tolist() == pytest.approx([np.mean([e < a for e in errors]) for a in at])
    # scipy counts what is equal too: between the errors both are one
    between = np.array([0.05, 0.12, 0.17, 0.25, 0.4, 0.7, 1.0])
    assert edf(errors, between) == pytest.approx(stats.ecdf(errors).cdf.evaluate(between))


@given(ERRORS, st.integers(0, 9))
def test_a_weighted_edf_is_its_definition(errors: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).dirichlet(np.ones(len(errors)))
    expected = [sum(w for e, w in zip(errors, weights, strict=True) if e < at) for at in (0.15, 0.3, 0.95)]
    assert edf(errors, [0.15, 0.3, 0.95], weights) == pytest.approx(expected)


def test_the_table_steps_where_scipys_does() -> None:
    one = population(50, 1)
    table = edf_table([one], rng())
    found = stats.ecdf(one.errors).cdf
    assert table["error"].tolist() == found.quantiles.tolist()
    assert table["share"].to_numpy() == pytest.approx(found.probabilities)
    assert (table["low"] <= table["share"] + 1e-9).all()
    assert (table["share"] <= table["high"] + 1e-9).all()


def test_bands_hold_the_true_distribution_as_often_as_they_say() -> None:
    at, hits = 0.5, []
    truth = (population(200_000, 99).errors <= at).mean()
    for seed in range(200):
        table = edf_table([population(100, seed)], np.random.default_rng(seed), draws=400)
        row = table[table["error"] <= at].iloc[-1]
        hits.append(row["low"] <= truth <= row["high"])
    assert 0.91 <= np.mean(hits) <= 0.98


def test_normalised_distributions_weigh_ranges_of_flops_alike() -> None:
    cheap = pd.DataFrame({"error": [0.5, 0.6, 0.1], "flops": [10, 11, 90], "params": [1, 1, 1]})
    dear = pd.DataFrame({"error": [0.5, 0.1, 0.2, 0.3], "flops": [10, 90, 90, 90], "params": [1, 1, 1, 1]})
    both = [Population.of(cheap, "cheap"), Population.of(dear, "dear")]
    assert [places.tolist() for places in flops_bins(both)] == [[0, 0, 9], [0, 9, 9, 9]]
    table = edf_table(both, rng(), normalised=True)
    share = {(row.population, row.error): row.share for row in table.itertuples()}
    assert share["cheap", 0.1] == pytest.approx(1 / 2)
    assert share["cheap", 0.5] == pytest.approx(3 / 4)
    assert share["dear", 0.1] == pytest.approx(1 / 6)
    assert share["dear", 0.3] == pytest.approx(1 / 2)
    # a range that one of them does not reach counts for neither
    dearer = pd.DataFrame({"error": [0.0, 0.2], "flops": [60, 90], "params": [1, 1]})
    assert flops_bins([both[0], Population.of(dearer, "dearer")])[1].tolist() == [-1, 9]
    with pytest.raises(PruningError, match="no FLOPs in common"):
        flops_bins([both[0], Population.of(dearer.assign(flops=[40, 50]), "dearer")])


# comparisons


def test_comparisons_are_scipys() -> None:
    one, other = population(64, 1, "one"), population(64, 2, "other", optimum=1.1)
    row = compare([one, other], rng()).iloc[0]
    ks, rank = stats.ks_2samp(one.errors, other.errors), stats.mannwhitneyu(one.errors, other.errors)
    assert row["ks"] == pytest.approx(ks.statistic)
    assert row["ks_p"] == pytest.approx(ks.pvalue)
    assert row["mann_whitney_p"] == pytest.approx(rank.pvalue)
    assert row["superiority"] == pytest.approx(1 - rank.statistic / 64**2)


def test_a_better_space_is_told_and_an_equal_one_is_not() -> None:
    same, better, worse = (population(128, seed, name, optimum=None) for seed, name in ((1, "a"), (2, "b"), (3, "c")))
    better.table["error"] -= 0.1
    words = compare([same, better, worse], rng())["words"].tolist()
    assert words[0].startswith("b has smaller errors than a: ")
    assert words[1].startswith("no difference of a and c is shown: ")
    assert words[2].startswith("b has smaller errors than c: ")
    assert compare([population(8, 1, "a"), population(8, 2, "b")], rng())["words"][0].startswith("undecided: 8 recipes")


@pytest.mark.slow
def test_normalised_comparisons_do_not_mistake_flops_for_quality() -> None:
    """Two spaces with the same errors at the same FLOPs, of which one has more recipes that are expensive."""
    p = []
    for seed in range(100):
        draw = np.random.default_rng(seed)
        both = []
        for name, power in (("cheap", 2.0), ("dear", 0.5)):
            flops = 1e6 * (0.2 + 0.8 * draw.random(100) ** power)
            table = pd.DataFrame({"error": 1 - flops / 2e6 + draw.normal(0, 0.05, 100), "flops": flops, "params": 1.0})
            both.append(Population.of(table, name))
        row = compare(both, draw).iloc[0]
        assert row["ks_p"] < 0.01
        p.append(row["ks_normalised_p"])
    # within a range the dearer ones are still a little dearer: ten ranges leave little of it
    assert np.mean(np.array(p) < 0.05) <= 0.15


def test_superiority_covers_the_truth() -> None:
    truth, hits = stats.norm.cdf(0.5 / np.sqrt(2)), []
    for seed in range(400):
        draw = np.random.default_rng(seed)
        _, low, high = superiority(draw.normal(0, 1, 40), draw.normal(0.5, 1, 40))
        hits.append(low <= truth <= high)
    assert 0.93 <= np.mean(hits) <= 0.97
    # two pairs that are won are as likely as 2.5 % at the lower bound
    assert superiority([1, 2], [3, 4]) == pytest.approx((1.0, 0.025**0.5, 1.0))
    assert superiority(range(48, 96), range(48)) == pytest.approx((0.0, 0.0, 1 - 0.025 ** (1 / 48)))
    assert superiority([1], [1])[0] == 0.5


@pytest.mark.parametrize(
    ("given", "expected"),
    [([], []), ([0.2], [0.2]), ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.6, np.nan, 0.5], [1, np.nan, 1])],
)
def test_holm_by_hand(given: list[float], expected: list[float]) -> None:
    assert holm(given) == pytest.approx(expected, nan_ok=True)


# winners


@given(ERRORS)
def test_the_best_of_samples_are_what_drawing_gives(errors: list[float]) -> None:
    found = np.bincount(best_draws(errors, rng(), 4000), minlength=len(errors)) / 4000
    draw, size = np.random.default_rng(1), max(1, round(0.25 * len(errors)))
    places = draw.integers(0, len(errors), (4000, size))
    # among equals the first that was drawn
    best = places[np.arange(4000), np.argmin(np.asarray(errors)[places], axis=1)]
    assert np.abs(found - np.bincount(best, minlength=len(errors)) / 4000).max() < 0.06


def test_winners_are_a_tenth_and_eight_at_least() -> None:
    errors = np.random.default_rng(0).random(200)
    assert winners_of(errors).tolist() == np.argsort(errors)[:20].tolist()
    assert len(winners_of(errors[:50])) == 8
    assert len(winners_of(errors[:3])) == 3


def test_bands_are_where_winners_lie() -> None:
    one = population(1000, 3, optimum=1.1, noise=0.02)
    one.table["error"] += 0.2 * (1 - one.table["channels.layer1.0.conv1"])
    bands = winner_bands(one, structure_table(one), rng()).set_index("statistic")
    assert bands.loc["rho", "low"] < 1.1 < bands.loc["rho", "high"]
    assert bands.loc["rho", "inside"] < 0.7
    assert bands.loc["channels.layer1.0.conv1", "low"] >= 0.75
    assert bands.loc["channels.layer1.0.conv1", "p_corrected"] < 1e-6
    assert bands.loc["channels.layer3.1.conv1", "p_corrected"] > 0.05


# structure


def test_structural_statistics_by_hand() -> None:
    table = pd.DataFrame(
        {
            "error": [0.1, 0.2],
            "flops": [10, 20],
            "params": [1, 4],
            "channels.layer1.0.conv1": [1.0, 0.5],
            "channels.layer1.1.conv1": [0.5, 1.0],
            "channels.layer2.0.conv1": [0.25, 1.0],
            "weights.layer2.0.conv2": [None, "tile 0.75"],
            "blocks.layer1.1": [1, 0],
        }
    )
    one = Population.of(table)
    ratios = layer_ratios(one.table)
    assert ratios["weights.layer2.0.conv2"].tolist() == [1.0, 0.75]
    # what a dropped block holds has no ratio
    assert ratios["channels.layer1.1.conv1"].tolist() == pytest.approx([0.5, np.nan], nan_ok=True)
    found = structure_table(one)
    assert found["mcb"].tolist() == [10, 5]
    assert found["mean_ratio"].tolist() == pytest.approx([2.75 / 4, 0.75])
    assert found["slope"].tolist() == [0, 0.25]
    assert found["blocks_kept"].tolist() == [1, 0]
    assert found["stage.layer1"].tolist() == [0.75, 0.5]
    assert found["stage.layer2"].tolist() == [0.625, 0.875]
    assert stages_of(pd.Index(["channels.features.0", "channels.features.3"])) == {}
    profile = profile_table(one, np.array([0]))
    assert profile[profile["group"] == "winners"]["median"].tolist() == [1.0, 0.5, 0.25, 1.0]
    assert profile["layer"].tolist()[:2] == ["layer1.0.conv1", "layer1.1.conv1"]


# correlations


def test_rank_correlations_are_scipys_with_intervals_that_cover() -> None:
    draw, truth, hits = np.random.default_rng(0), 6 / np.pi * np.arcsin(0.25), []
    kendall = 2 / np.pi * np.arcsin(0.5)
    for _ in range(400):
        x = draw.normal(size=(60, 2)) @ np.linalg.cholesky([[1, 0.5], [0.5, 1]]).T
        row = rank_correlations(pd.DataFrame(x, columns=["a", "error"]), ["a"]).iloc[0]
        hits.append(
            [row["spearman_low"] <= truth <= row["spearman_high"], row["kendall_low"] <= kendall <= row["kendall_high"]]
        )
    assert row["spearman"] == pytest.approx(stats.spearmanr(*x.T).statistic)
    assert row["kendall"] == pytest.approx(stats.kendalltau(*x.T).statistic)
    assert row["p"] == pytest.approx(stats.spearmanr(*x.T).pvalue)
    assert (np.mean(hits, axis=0) >= 0.93).all()
    assert (np.mean(hits, axis=0) <= 0.98).all()


def test_correlations_that_are_not_defined_are_nan() -> None:
    table = pd.DataFrame({"error": np.arange(8.0), "flat": 1.0, "few": [1, 2, *[np.nan] * 6], "up": np.arange(8.0)})
    found = rank_correlations(table, ["flat", "few", "up"]).set_index("statistic")
    assert found.loc[["flat", "few"], "spearman"].isna().all()
    assert found.loc["few", "n"] == 2
    assert found.loc["up", ["spearman", "spearman_high"]].tolist() == [1, 1]
    assert found.loc["up", "p_corrected"] < 0.01
    with pytest.raises(PruningError, match="no column 'loss'"):
        rank_correlations(table, ["loss"])


# optima and conjectures


@pytest.mark.slow
def test_the_interval_holds_a_planted_optimum_as_often_as_it_says() -> None:
    hits = []
    for seed in range(500):
        for n, planted in ((64, 1.0), (128, 1.1), (256, 0.9)):
            found = fit_optimum_only(n, [seed, n], planted)
            hits.append(found[0] <= planted <= found[1])
    assert 0.93 <= np.mean(hits) <= 0.97


def fit_optimum_only(n: int, seed: list[int], planted: float) -> tuple[float, float]:
    """Return the interval of a planted optimum, without the permutations that it does not need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explorer.analysis.populations.optimum._PERMUTATIONS", 1)
        found = fit_optimum(population(n, seed, optimum=planted), rng())
    return found.low, found.high


def answers(one: Population, seed: int) -> list[str]:
    return conjecture_table([one], [fit_optimum(one, np.random.default_rng(seed))])["answer"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"optimum": None}, {"optimum": None, "slope": -0.3}])
def test_no_optimum_is_claimed_where_there_is_none(options: dict[str, Any]) -> None:
    found = [answers(population(96, [7, seed], **options), seed) for seed in range(200)]
    # a relation that falls all the way has no optimum, though its winners do lie at one end
    claims = [one[0] == "supported" or (not options.get("slope") and one[1] == "supported") for one in found]
    assert sum(claims) <= 10


def test_a_planted_optimum_is_found() -> None:
    found = [answers(population(256, [3, seed], optimum=1.05), seed) for seed in range(20)]
    assert sum(one[0] == "supported" for one in found) >= 19
    assert sum(one[1] == "supported" for one in found) >= 15


def test_nothing_is_shown_to_be_nothing_with_enough_recipes() -> None:
    found = [answers(population(600, [5, seed], optimum=None), seed) for seed in range(10)]
    assert sum(one[0] == "not supported" for one in found) >= 8
    assert sum(one[1] == "not supported" for one in found) >= 4
    assert not any("supported" in one for one in found)
    falling = population(600, 1, optimum=None, slope=-0.5)
    table = conjecture_table([falling], [fit_optimum(falling, rng())])
    assert "in one error falls with rho all the way" in table["words"][0]


def test_a_moving_optimum_is_told_from_one_that_stays() -> None:
    def table(optima: list[float], what: str, seed: int) -> pd.DataFrame:
        fixed = {"regime": 0.5, "network": "a", "protocol": "inherit", "seed": 0}
        members = [
            population(300, [seed, i], f"p{i}", optimum=planted, **fixed | {what: f"{i}"})
            for i, planted in enumerate(optima)
        ]
        return conjecture_table(members, [fit_optimum(one, rng()) for one in members])

    moving = table([0.95, 1.1], "regime", 0).iloc[-1]
    assert (moving["conjecture"], moving["answer"]) == ("regime", "supported")
    assert "the optimum by regime is 0: rho 0.9" in moving["words"]
    staying = [table([1.0, 1.0, 1.0], "network", seed).iloc[-1] for seed in range(8)]
    assert {row["conjecture"] for row in staying} == {"network"}
    assert all(row["answer"] != "supported" for row in staying)
    assert any(row["answer"] == "not supported" for row in staying)
    none = table([1.0, 1.0], "regime", 1).assign()
    assert none.iloc[-1]["p"] > 0.001


@pytest.mark.slow
def test_the_test_of_one_common_optimum_has_its_level() -> None:
    p = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explorer.analysis.populations.optimum._PERMUTATIONS", 1)
        for seed in range(300):
            optima = [fit_optimum(population(150, [seed, i], optimum=1.05), rng()) for i in range(3)]
            p.append(common_optimum_p(optima))
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.08


def test_few_recipes_make_no_claim() -> None:
    one = population(LEAST - 1, 0, noise=0.001)
    table = conjecture_table([one], [fit_optimum(one, rng())])
    assert table["answer"].tolist() == ["undecided", "undecided"]
    assert "one has 31 recipes, a claim needs 32 at least" in table["words"][0]
    with pytest.raises(PruningError, match="one: 5 recipes of 5 different rho, allowed are 8 recipes of 3 at least"):
        fit_optimum(population(5, 0), rng())


# the whole


def test_a_thousand_recipes_are_analysed_twice_alike() -> None:
    one = population(1000, 0)
    begin = time.perf_counter()
    first, second = analyse([one]), analyse([one])
    assert time.perf_counter() - begin < 20
    assert set(first.tables) == {"summary", "edf", "correlations", "bands", "optima", "conjectures"}
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, second.tables[name])


def test_what_belongs_together_is_compared() -> None:
    members = [
        population(40, seed, f"{space}{regime}", space=space, regime=regime, network="n", protocol="p", seed=0)
        for seed, (space, regime) in enumerate([("a", 0.5), ("b", 0.5), ("a", 0.25), ("b", 0.25)])
    ]
    tables = analyse(members).tables
    assert tables["comparisons"][["first", "second"]].to_numpy().tolist() == [["a0.5", "b0.5"], ["a0.25", "b0.25"]]
    asked = tables["conjectures"].groupby("conjecture")["about"].apply(list)
    assert asked["regime"] == ["a0.5, a0.25", "b0.5, b0.25"]
    assert set(tables["edf"].loc[tables["edf"]["normalised"], "population"]) == {one.name for one in members}


def test_a_population_too_small_for_an_optimum_is_said_to_be_skipped() -> None:
    found = analyse([population(6, 0)])
    assert found.skipped[0][0] == "optimum"
    assert "conjectures" not in found.tables


# mistakes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="params"), "mine: no column 'params', allowed is a table with error, flops, params"),
        (lambda t: t.assign(error="low"), "mine: column 'error' holds 'low', allowed are numbers"),
        (lambda t: t.assign(error=np.nan), "mine: none of its 10 recipes has an error"),
        (lambda t: t.iloc[:0], "mine: none of its 0 recipes has an error"),
        (lambda t: t.assign(params=0), "mine: flops and params must be above 0"),
        (lambda t: t.assign(seed=[0, 1] * 5), "mine: seed is mixed up (0, 1), allowed is one a population"),
        (lambda t: t.assign(network=["a", "b"] * 5), "mine: network is mixed up (a, b)"),
        (lambda t: t.assign(protocol=["inherit", "finetune"] * 5), "mine: protocol is mixed up (inherit, finetune)"),
    ],
)
def test_bad_tables_are_one_line(change: Any, words: str) -> None:
    with pytest.raises(PruningError) as caught:
        Population.of(change(made_up(10, 0)), "mine")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_failed_evaluations_are_counted_and_not_averaged() -> None:
    table = made_up(10, 0).assign(state=["COMPLETE"] * 8 + ["FAIL"] * 2)
    table.loc[0, "error"] = np.inf
    one = Population.of(table)
    assert (len(one), one.failed) == (7, 3)
    assert one.errors.tolist() == table["error"].tolist()[1:8]


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"protocol": "finetune"}, "populations: protocol is inherit in a and finetune in b, allowed is the same"),
        ({"seed": 1}, "populations: seed is 0 in a and 1 in b"),
        ({"network": "vgg"}, "populations: network is resnet in a and vgg in b"),
    ],
)
def test_what_was_made_in_different_ways_is_not_compared(other: dict[str, Any], words: str) -> None:
    given = {"protocol": "inherit", "seed": 0, "network": "resnet"}
    both = [Population.of(made_up(10, 0).assign(**c), n) for n, c in (("a", given), ("b", given | other))]
    with pytest.raises(PruningError, match="allowed is the same in all that are compared") as caught:
        compare(both, rng())
    assert words in str(caught.value)


def test_unequal_numbers_and_names_are_refused() -> None:
    a, b = population(10, 0, "a"), population(11, 1, "b")
    with pytest.raises(PruningError, match="10 recipes in a and 11 in b, allowed are equally many"):
        compare([a, b], rng())
    with pytest.raises(PruningError, match="'a' is the name of two"):
        check_comparable([a, a], ())
    with pytest.raises(PruningError, match="1 given, a comparison needs two at least"):
        check_comparable([a], ())


def test_files_hold_one_or_several_populations(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    both = pd.concat([made_up(10, 0, population="a"), made_up(10, 1, population="b")])
    both.to_csv(path, index=False)
    assert [(one.name, len(one), one.ratio) for one in read_populations(path)] == [("a", 10, "mcb"), ("b", 10, "mcb")]
    assert [one.ratio for one in read_populations(path, dense=DENSE)] == ["rho", "rho"]
    assert [one.name for one in populations_of(made_up(10, 0))] == ["population"]
    with pytest.raises(PruningError, match=r"population: '.*no\.csv' can't be read"):
        read_populations(tmp_path / "no.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(PruningError, match="can't be read"):
        read_populations(tmp_path / "empty.csv")


def test_the_package_needs_no_torch() -> None:
    code = "import sys, explorer.analysis.populations; assert not {'torch', 'hydra'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
