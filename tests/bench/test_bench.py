"""The benchmarks at tiny sizes: what they write and refuse; no time is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

import explorer.bench
from explorer.bench import _BY_NAME, BENCHES, run_bench
from explorer.bench.build import _bare, _torch_pruning
from explorer.bench.cases import Case
from explorer.bench.frontiers import within
from explorer.bench.measured import Measured
from explorer.bench.resnet50 import resnet50
from explorer.bench.sparse import LAYERS, _patterns
from explorer.tracing import trace
from spaces import PruningError, Recipe, dense_costs
from spaces.granularity import PATTERNS
from tests.support.published import published

TINY = {
    "costs": ["costs.model=resnet_digits", "costs.recipes=100", "costs.counted=3"],
    "build": ["build.ratios=[0.5]", "build.image=32"],
    "evaluate": [
        "evaluate.models=[resnet_digits]",
        "evaluate.recipes=1",
        "evaluate.batch_size=4",
        "evaluate.calibration_batches=1",
        "evaluate.images=6",
    ],
    "sparse": ["sparse.layers=[bert_down,conv7]", "sparse.ratios=[0.25]", "sparse.tokens=2", "sparse.images=1"],
}
COLUMNS = ["case", "other", "figure", "unit", "target", "reached"]
COLUMNS += [f"{who}_ms{quartile}" for who in ("ours", "other") for quartile in ("", "_q1", "_q3")]
COLUMNS += ["threads", "seed", "machine", "cores", "load", "date", "python"]
COLUMNS += ["pruning-spaces", "torch", "numpy", "torch-pruning"]


def _table(name: str) -> pd.DataFrame:
    assert run_bench([name, "repeats=1", *TINY[name]]) == 0
    return pd.read_csv(Path("results") / "bench" / f"{name}.csv")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_bench_has_a_tiny_size() -> None:
    assert set(TINY) | set(_BY_NAME) == set(BENCHES)


def test_costs_are_those_of_the_built_modules() -> None:
    table = _table("costs")
    assert list(table) == COLUMNS
    assert table["figure"].iloc[-1] == 3
    assert table["unit"].tolist() == ["recipes/s", "x", "recipes/s", "of 3"]
    assert table["figure"][0] == pytest.approx(1000 * 100 / table["ours_ms"][0])


def test_build_is_compared_with_torch_pruning_and_slicing_alone() -> None:
    pytest.importorskip("torch_pruning")
    table = _table("build")
    assert list(table) == COLUMNS
    assert table["other"].tolist() == ["Torch-Pruning", "index_select alone"]
    assert table["target"].tolist() == [">= 12", "<= 1.5"]
    assert table["figure"][0] == pytest.approx(table["other_ms"][0] / table["ours_ms"][0])
    assert table["figure"][1] == pytest.approx(table["ours_ms"][1] / table["other_ms"][1])


def test_without_torch_pruning_its_rows_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch_pruning", None)
    assert _table("build")["other"].tolist() == ["index_select alone"]
    assert "pruning-spaces[bench]" in " ".join(capsys.readouterr().out.split())


def test_evaluate_is_compared_with_bare_passes() -> None:
    table = _table("evaluate")
    assert list(table) == COLUMNS
    assert table["target"].tolist() == ["<= 1.1", "<= 2.5"]
    assert table["figure"][0] == pytest.approx(table["ours_ms"][0] / table["other_ms"][0])


def test_every_granularity_is_compared_with_the_dense_layer_and_gives_its_outputs() -> None:
    table = _table("sparse")
    assert list(table) == COLUMNS
    *cases, last = table.itertuples()
    assert (last.figure, last.unit, last.reached) == (len(cases) - 2, f"of {len(cases) - 2}", True)
    assert {case.other for case in cases} == {"dense, ideal 4 x"}
    for layer, missing in [("bert_down", {"kernel"}), ("conv7", set())]:
        kinds = {case.case.split(",")[1].split("(")[0].split()[0] for case in cases if case.case.startswith(layer)}
        assert kinds == {"filter", *PATTERNS} - missing
    assert [case.target for case in cases if isinstance(case.target, str)] == [">= 2.7", ">= 2"]
    assert table["figure"][1] == pytest.approx(table["other_ms"][1] / table["ours_ms"][1])


def test_a_granularity_without_the_ratio_is_left_out() -> None:
    shape = LAYERS["bert_up"]
    assert [pattern.granularity for pattern in _patterns(0.5, shape)] == [
        "tile",
        "tile_element",
        "block",
        "vector",
        "element",
    ]
    assert {pattern.granularity for pattern in _patterns(0.04, shape)} == {"tile", "tile_vector", "block", "element"}


def test_without_a_name_all_run_that_need_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ran, expected = [], [name for name in BENCHES if name not in _BY_NAME]
    stubs = {name: lambda config, name=name: ran.append(name) or [Measured(name, "", 1.0)] for name in BENCHES}
    monkeypatch.setattr(explorer.bench, "BENCHES", stubs)
    before = torch.get_num_threads()
    assert run_bench(["threads=2"]) == 0
    assert ran == expected
    assert torch.get_num_threads() == before
    assert sorted(path.stem for path in Path("results/bench").iterdir()) == sorted(expected)


@pytest.mark.slow
def test_frontiers_are_measured_on_test_and_kept(tmp_path: Path) -> None:
    given = [
        *published(tmp_path, "frontiers"),
        "frontiers.seeds=1",
        "frontiers.trials=4",
        "frontiers.epochs=1",
        "frontiers.images=40",
    ]
    given += ["frontiers.ratios=[0.75,0.5]", "frontiers.finetuning.images=64"]
    assert run_bench(["frontiers", *given]) == 0
    folder = Path("results") / "bench" / "frontiers"
    table = pd.read_csv(folder / "frontiers-resnet20.csv")
    assert list(table["evaluator"].unique()) == ["inherit", "reconstruct", "fine-tuned"]
    searched = table[table["evaluator"] != "fine-tuned"]
    assert (searched.groupby("evaluator").size() == 4).all()
    # test images are for the frontier alone
    assert searched["test_error"].notna().any()
    assert searched["test_error"].isna().any()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("resnet20-*.csv")}
    assert run_bench(["frontiers", *given]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("resnet20-*.csv")} == kept
    assert (folder / "frontiers-resnet20.png").exists()


def test_the_best_within_a_share_is_chosen_by_validation() -> None:
    table = pd.DataFrame(
        {
            "evaluator": "inherit",
            "seed": 0,
            "flops": [0.4, 0.5, 0.7],
            "error": [0.3, 0.2, 0.1],
            "test_error": [0.2, 0.4, 0.3],
        }
    )
    found = within(table, [0.75, 0.5, 0.1])
    assert found["ratio"].tolist() == [0.75, 0.5]
    assert found["test_error"].tolist() == [0.3, 0.4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bild"], "bench: 'bild' is unknown, did you mean 'build'"),
        (["costs", "sed=3"], "key: 'sed' is unknown, did you mean 'seed'"),
        (["costs", "seed=1,2"], "one value for a key"),
        (["costs", "repeats=0"], "repeats: 0, allowed is a whole number >= 1"),
        (["costs", "seconds=-1"], "seconds: -1"),
        (["costs", "costs.model=resnet57"], "costs.model: 'resnet57' is unknown"),
        (["evaluate", "evaluate.models=resnet20"], "allowed is a list"),
        (["evaluate", "evaluate.images=a"], "evaluate.images: 'a'"),
        (["build", "build.ratios=[50]"], "build.ratios: ratio 50"),
        (["sparse", "sparse.ratios=[0]"], "sparse.ratios: ratio 0"),
        (["sparse", "sparse.tokens=0"], "sparse.tokens: 0"),
        (["sparse", "sparse.layers=[bert]"], "sparse.layers: 'bert' is unknown, did you mean 'bert_up'"),
        (["sparse", "sparse.layers=conv7"], "allowed is a list"),
        (["frontiers", "frontiers.model=resnet57"], "frontiers.model: 'resnet57' is unknown"),
        (["others", "others.model=resnet50"], "others.model: 'resnet50' is unknown"),
        (["naive", "naive.model=vgg16_bn"], "naive.model: 'vgg16_bn' is unknown"),
        (["frontiers", "frontiers.evaluators=[finetune]"], "frontiers.evaluators: 'finetune' is unknown"),
        (["frontiers"], "frontiers.data: not given"),
        (["others"], "others.data: not given"),
        (["others", "others.methods=[unifrom]"], "others.methods: 'unifrom' is unknown, did you mean 'uniform'"),
        (["others", "others.methods=[fastnas+reconstruct]"], "but fastnas makes modules, allowed is fastnas"),
        (["others", "others.methods=[nowhere.method]"], "others.methods: 'nowhere.method' can't be imported"),
        (["others", "others.spaces=[iner]"], "others.spaces: 'iner' is unknown, did you mean 'inner'"),
        (["others", "others.ratios=[50]"], "others.ratios: ratio 50"),
        (["naive"], "naive.data: not given"),
        (["naive", "naive.minutes=0"], "naive.minutes: 0"),
        (["training"], "training.data: not given"),
        (["training", "training.multiples=[0]"], "training.multiples: 0"),
        (["training", "training.shares=[2]"], "training.shares: ratio 2"),
        (["training", "training.model=vgg16_bn"], "training.model: 'vgg16_bn' is unknown"),
        (["naive", "naive.evaluator=finetune"], "naive.evaluator: 'finetune' is unknown"),
        (
            ["leaderboard", "leaderboard.tables=nowhere"],
            "leaderboard.tables: 'nowhere' has none of others-resnet20.csv",
        ),
        (["samplers"], "samplers.data: not given"),
        (["criteria"], "criteria.data: not given"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(arguments: list[str], message: str) -> None:
    with pytest.raises(PruningError, match=message.replace("[", r"\[")) as caught:
        run_bench(arguments)
    assert "\n" not in str(caught.value)
    assert not Path("results").exists()


@pytest.mark.parametrize(
    ("figure", "target", "reached"),
    [
        (Measured("", "", 12.0, at_least=12), ">= 12", True),
        (Measured("", "", 1e6 - 1, at_least=1e6), ">= 1,000,000", False),
        (Measured("", "", 1.1, at_most=1.1), "<= 1.1", True),
        (Measured("", "", 1.2, at_most=1.1), "<= 1.1", False),
        (Measured("", "", 1.2), "", None),
    ],
)
def test_what_is_to_be_reached(figure: Measured, target: str, reached: bool | None) -> None:
    assert figure.target == target
    assert figure.reached is reached


def test_resnet50_has_its_published_size() -> None:
    # He et al. 2016 with the stride in the 3x3 convolution; torchvision prints 25,557,032 and 4.09 G
    model = resnet50()
    network = trace(model, torch.zeros(1, 3, 224, 224), verify=False)
    assert dense_costs(network)["params"] == 25_557_032
    assert dense_costs(network)["flops"] == pytest.approx(4.089e9, rel=1e-4)
    assert {"layer1.0.downsample.1.running_mean", "layer4.2.conv3.weight", "fc.bias"} < set(model.state_dict())
    assert len(model.state_dict()) == 320


def test_both_ways_make_modules_of_one_size() -> None:
    pytest.importorskip("torch_pruning")
    case = Case(resnet50(num_classes=10), torch.zeros(1, 3, 32, 32), "resnet50")
    (theirs,) = _torch_pruning(case.model, case.example, 0.75)
    ours = case.build(Recipe.of({unit.name: 0.75 for unit in case.network.units}))
    assert [p.shape for p in theirs().parameters()] == [p.shape for p in ours.parameters()]


def test_slicing_alone_makes_the_tensors_of_the_module() -> None:
    case = Case.built_in("resnet_digits")
    kept = case.pruner.kept(Recipe.of({unit.name: 0.5 for unit in case.network.units}))
    module = case.pruner.surgeon.build(kept)
    small = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for tensor, made in zip(case.network.tensors, _bare(case, kept)(), strict=True):
        assert torch.equal(made, small[tensor.name])
