"""Populations from the command line and from Python: drawn, evaluated once, resumed, analysed and refined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import explorer
from explorer.analysis.run_folder import RunFolder
from explorer.runs.population import population_of, write_populations
from explorer.search.drawing import Drawing
from spaces import Budget, Network, PruningError, PruningSpace
from tests.support.quick_runs import table

QUICK = [
    "evaluator=inherit",
    "training.epochs=2",
    "evaluator.calibration_batches=2",
    "evaluator.images=200",
    "space=inner",
    "n=9",
]
TABLES = {"recipes", "summary", "edf", "correlations", "bands", "optima", "conjectures"}


def test_a_population_is_drawn_evaluated_and_told(explore, folder):
    code, out, err = explore("population", *QUICK, "name=one")
    assert code == 0, err
    run = folder / "results" / "one"
    trials = pd.read_parquet(run / "trials.parquet")
    assert len(trials) == 9
    assert set(trials["source"]) == {"population"}
    assert trials["flops_ratio"].between(0.48, 0.52).all()
    assert not trials.duplicated([column for column in trials if column.startswith("channels.")]).any()
    assert {path.stem for path in (run / "population").glob("*.csv")} == TABLES
    assert {path.suffix for path in (run / "plots").glob("population-*")} == {".png", ".svg", ".pdf"}
    assert out.count("undecided: inner 0.5 has 9 recipes, a claim needs 32 at least") == 1
    assert "Is there an optimal FLOPs-to-parameter ratio? Do the winners lie near it? undecided" in out
    # a sample is no search: no frontier and no hypervolume
    assert "frontier" not in out
    assert "hypervolume" not in out
    assert "9 recipes" in out
    findings = (run / "population" / "findings.md").read_text()
    assert "| inner 0.5 | 9 | 0 |" in findings
    assert "## Refined spaces" in findings
    assert "no optimal ratio was shown, so the bands may be chance" in findings
    one = population_of(RunFolder(run))
    assert one is not None
    assert (one.name, len(one), one.ratio) == ("one", 9, "rho")
    assert {key: one.circumstances[key] for key in ("network", "seed", "space", "regime")} == {
        "network": "resnet_digits", "seed": 0, "space": "inner", "regime": 0.5
    }  # fmt: skip


def test_a_population_is_answered_from_files_and_continued_by_a_larger_n(explore, folder):
    before = table(folder / "results" / "one")
    code, out, _ = explore("population", *QUICK, "name=one")
    assert code == 0
    assert "is finished: 9 trials" in out
    code, out, _ = explore("population", *QUICK, "name=one", "n=12")
    assert code == 0
    after = table(folder / "results" / "one")
    assert len(after) == 12
    pd.testing.assert_frame_equal(after.iloc[:9], before, check_dtype=False)


def test_proxies_are_added_to_a_finished_population(explore, folder):
    before = table(folder / "results" / "one")
    code, out, err = explore("population", *QUICK, "name=one", "n=12", "proxies=true")
    assert code == 0, err
    pd.testing.assert_frame_equal(table(folder / "results" / "one"), before, check_dtype=False)
    run = folder / "results" / "one"
    scores = pd.read_csv(run / "proxies.csv")
    assert scores["trial"].tolist() == list(range(12))
    # the evaluator of this population is that proxy
    assert scores["bn_error"].tolist() == pytest.approx(before["error"].tolist())
    found = pd.read_csv(run / "population" / "proxies.csv").set_index("statistic")
    assert found.loc["bn_error", "spearman"] == pytest.approx(1)
    findings = (run / "population" / "findings.md").read_text()
    assert "inner 0.5: bn_error is left out, it is the evaluator's own error here" in findings
    assert "bn_error +" not in findings
    assert set(found.index) >= {"reconstructed_error", "synflow", "snip", "importance", "flops", "rho"}
    assert list((run / "plots").glob("population-proxies-*.pdf"))
    code, out, _ = explore("population", *QUICK, "name=one", "n=12", "proxies=true")
    assert code == 0
    assert "is finished" in out


def test_another_draw_is_another_population_on_the_same_inputs(explore, folder):
    code, _, _ = explore("population", *QUICK, "name=other", "draw=1", "executor=local", "executor.workers=2")
    assert code == 0
    one, other = (table(folder / "results" / name) for name in ("one", "other"))
    axes = [column for column in one if column.startswith("channels.")]
    assert not one[axes].iloc[:9].reset_index(drop=True).equals(other[axes].reset_index(drop=True))


@pytest.mark.slow
def test_spaces_are_compared_and_a_refined_one_is_an_option(explore, folder):
    code, out, err = explore("population", "-m", *QUICK[:-2], "n=9", "space=inner,filter")
    assert code == 0, err
    (sweep,) = (folder / "results").glob("sweep-*")
    comparisons = pd.read_csv(sweep / "population" / "comparisons.csv")
    assert comparisons[["first", "second"]].to_numpy().tolist() == [["filter 0.5", "inner 0.5"]]
    assert set(pd.read_csv(sweep / "population" / "conjectures.csv")["about"]) == {"filter 0.5", "inner 0.5"}
    assert "undecided" in out
    names = {path.name for path in (sweep / "plots").glob("population-edf*.png")}
    assert names == {"population-edf.png", "population-edf-normalised.png"}
    spaces = sweep / "population" / "space"
    assert {path.stem for path in spaces.glob("*.yaml")} == {"refined-inner-0_5", "refined-filter-0_5"}
    # a folder of configuration files: the refined space is sampled afresh beside the old one
    fresh = ["space=inner,refined-inner-0_5", "draw=1", "name=fresh"]
    code, _, err = explore("population", "--config-dir", str(spaces.parent), "-m", *QUICK[:-2], "n=9", *fresh)
    assert code == 0, err
    summary = pd.read_csv(folder / "results" / "fresh" / "population" / "summary.csv")
    assert sorted(summary["space"]) == ["inner", "refined-inner-0_5"]
    # and searched
    code, _, err = explore(
        "run", *QUICK[:3], "space=file", f"space.path={spaces / 'refined-inner-0_5.yaml'}", "trials=3"
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("n=1", "n: 1, allowed is a whole number >= 2"),
        ("regime.flops=0", "regime.flops: 0, allowed is a number > 0"),
        ("regime.flops=1.5", "regime.flops: 1.5, allowed is a share above 0 and up to 1"),
        ("regime.tol=-1", "regime.tol: -1, allowed is a number >= 0"),
        ("regime.flop=1", "'regime.flop' is unknown, did you mean 'regime.flops'?"),
        ("strata=0", "strata: 0, allowed is a whole number >= 1"),
        ("proxies=maybe", "proxies: 'maybe', allowed is true or false"),
        ("draw=-1", "draw: -1, allowed is a whole number >= 0"),
        ("sampler=tpe", "sampler: 'tpe', a population has 'random'"),
        ("ladder=8", "ladder: 8, a population has 0"),
        ("trials=5", "trials: 5, a population has 9"),
        ("evaluator.racing=true", "evaluator.racing: True, a population has False"),
        ("regime.tol=0", "population: 9 recipes wanted and"),
        ("n=100000", "population: 100000 recipes wanted and 34038 found with flops 0.48 to 0.52"),
        ("regime.flops=0.01 regime.tol=0.001", "budget.flops: [0.009, 0.011] of dense holds no recipe"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(explore, folder, override, words):
    code, _, err = explore("population", *QUICK, "name=mistake", *override.split())
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert not (folder / "results" / "mistake").exists()


def test_several_rungs_are_no_protocol(explore):
    code, _, err = explore("population", *QUICK, "evaluator=finetune", "evaluator.rungs=[1,2]")
    assert code == 2
    assert "evaluator.rungs: 2 of them, a population has one: all recipes are trained alike" in err


def test_a_search_is_no_population(explore, folder, capsys):
    explore("run", *QUICK[:4], "trials=3", "name=searched")
    with pytest.raises(PruningError, match=r"is a search, which looks at errors; allowed are populations"):
        population_of(RunFolder(folder / "results" / "searched"))
    write_populations([RunFolder(folder / "results" / "searched")], folder / "nothing")
    assert not (folder / "nothing").exists()


def test_what_cannot_be_analysed_together_is_said(explore, folder, capsys):
    # one of them was continued to more recipes than the other
    folders = [RunFolder(folder / "results" / name) for name in ("one", "other")]
    write_populations(folders, folder / "both")
    assert "12 recipes in one and 9 in other, allowed are equally many" in " ".join(capsys.readouterr().out.split())
    assert (folder / "both" / "population" / "recipes.csv").exists()
    assert not (folder / "both" / "population" / "edf.csv").exists()


def test_a_population_never_holds_the_dense_network(explore, folder):
    network = Network.load(folder / "results" / "one" / "network.yaml")
    space = PruningSpace.from_config(network, explorer_space("inner"))
    rows = Drawing(1.0, 0.05).rows(space, 20, Budget())
    assert len(rows) == 20
    assert not any(space.is_dense(row) for row in rows)
    again = Drawing(1.0, 0.05).rows(space, 10, Budget())
    assert all(np.array_equal(one, other) for one, other in zip(again, rows, strict=False))
    whole = Drawing(None, 0.02, strata=4).rows(space, 40, Budget.parse({"params": 0.8}))
    costs = space.costs(np.array(whole))
    assert (costs["params"] <= 0.8 * space.dense["params"] + 0.5).all()


def explorer_space(name: str):
    from explorer.utils.space_section import named_space

    return named_space(name)


def made_up_problem() -> tuple[nn.Module, DataLoader, DataLoader]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4),
    )  # fmt: skip
    data = TensorDataset(torch.randn(64, 3, 8, 8), torch.randint(0, 4, (64,)))
    return model, DataLoader(data, 32), DataLoader(data, 32)


@pytest.mark.filterwarnings("ignore:the dense network has")
def test_populations_from_python(tmp_path: Path) -> None:
    model, train, validation = made_up_problem()
    found = explorer.population(model, train, validation, regimes=[0.5, 0.3], tol=0.1, n=8, calibration_batches=1)
    assert list(found.studies) == ["filter 0.5", "filter 0.3"]
    for name, share in (("filter 0.5", 0.5), ("filter 0.3", 0.3)):
        trials = found.studies[name].trials
        assert len(trials) == 8
        assert trials["flops_ratio"].between(share - 0.101, share + 0.101).all()
    assert "a claim needs 32 at least" in found.findings()
    assert "ratios" in found.figures()
    refined = found.refine("filter 0.5")
    space = found.studies["filter 0.5"].problem.space
    assert PruningSpace.from_config(space.network, refined.config).constraints.bounds[0][0] == "flops"
    assert 0 < refined.share <= 1
    with pytest.raises(PruningError, match=r"'tile' is no population, allowed are filter 0\.5, filter 0\.3"):
        found.refine("tile")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": 3}, "trials: 3, a population has none"),
        ({"sampler": "tpe"}, "sampler: 'tpe', a population has none"),
        ({"n": 1}, "n: 1, allowed is a whole number >= 2"),
        ({"regimes": [0.5, 2]}, "regime.flops: 2, allowed is a share above 0 and up to 1"),
        ({"spaces": []}, "no space or no regime given"),
        ({"regimes": []}, "no space or no regime given"),
        ({"evaluator": {"name": "finetune", "rungs": [1, 2]}}, "evaluator.rungs: 2 of them, a population has one"),
    ],
)
@pytest.mark.filterwarnings("ignore:the dense network has")
def test_mistakes_from_python_are_one_line(options, words):
    model, train, validation = made_up_problem()
    options = {"n": 4, "tol": 0.2, "calibration_batches": 1} | options
    with pytest.raises(PruningError) as caught:
        explorer.population(model, train, validation, **options)
    assert words in str(caught.value)
