"""Contestants at equal FLOPs: what they make, what is refused, and what is kept; whoever needs a tool skips without."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from explorer.bench import run_bench
from explorer.bench.others import METHODS, Entry, _there, markdown
from explorer.bench.others.costs import counted, flops_of
from explorer.bench.others.figure import others_data, others_figure
from explorer.bench.others.methods import TOLERANCE
from explorer.data.task import classification
from explorer.evaluation.budgets import LatencyLimit
from explorer.models import MODELS
from explorer.problem import Problem
from explorer.pruning.criteria import Options
from explorer.pruning.surgery.skeleton import copied
from explorer.runs.composing import compose
from explorer.runs.config import RunConfig
from explorer.search.plan import Plan
from explorer.utils.space_section import named_space
from spaces import Budget, PruningError, Recipe, costs_of
from tests.support.pages import ROOT, blocks
from tests.support.published import published

SHARES = (0.7, 0.5)


def batches(count: int, size: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(count)
    return [
        (torch.rand(size, 1, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator))
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def problem() -> Problem:
    """A random ResNet of digits, its inner channels."""
    torch.manual_seed(0)
    model = MODELS["resnet_digits"]().eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            # where all scales are one they tell nothing
            nn.init.uniform_(part.weight, 0.5, 1.5)
    return Problem.of(
        model,
        named_space("inner"),
        batches(2, 16),
        batches(1, 32),
        limits=Budget(),
        latency=LatencyLimit(),
        objectives=["error", "flops"],
        criterion=Options.of({"name": "l1"}),
        task=classification(classes=10),
    )


@pytest.fixture(scope="module")
def plan() -> Plan:
    return RunConfig.of(compose(["trials=10", "data=digits"])[0]).plan


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The methods of the page on extending, and others that are wrong, as mine.py."""
    page = "\n\n".join(blocks(ROOT / "docs" / "extending.md", "python"))
    wrong = (
        "def dense(problem, flops):\n    return problem.meter.model\n\n\ndef nothing(problem, flops):\n    return 3\n"
    )
    (tmp_path / "mine.py").write_text(f"{page}\n\n{wrong}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    yield tmp_path
    sys.modules.pop("mine", None)


def share(problem: Problem, made: Recipe | nn.Module) -> float:
    if isinstance(made, Recipe):
        return costs_of(problem.space.network, made)["flops"] / problem.dense["flops"]
    return flops_of(made, problem.meter.validation[0][0][:1]) / problem.dense["flops"]


def needed(name: str) -> str:
    """Skip the test where the tool of a method is missing."""
    if METHODS[name].missing:
        pytest.skip(f"{METHODS[name].package} is not installed")
    return name


@pytest.mark.parametrize("name", METHODS)
def test_every_method_gives_its_share_and_leaves_the_dense_network_as_it_was(
    name: str, problem: Problem, plan: Plan
) -> None:
    before = {key: value.clone() for key, value in problem.meter.model.state_dict().items()}
    made, _ = METHODS[needed(name)].make(problem, plan, SHARES)
    assert set(made) == set(SHARES)
    assert all(isinstance(found, Recipe) == METHODS[name].recipes for found in made.values())
    for asked, found in made.items():
        assert share(problem, found) <= asked + TOLERANCE
    if name not in ("frontier", "fastnas"):
        # those that measure may find less to be as good here, where nothing is learnt
        assert share(problem, made[0.7]) > 0.5 + TOLERANCE
    if name.startswith("torch_pruning"):
        # what is no unit of the space stays whole
        assert {module.get_submodule("conv1").out_channels for module in made.values()} == {16}  # type: ignore[union-attr]
    after = problem.meter.model.state_dict()
    assert all(torch.equal(before[key], value) for key, value in after.items())
    assert all(parameter.grad is None for parameter in problem.meter.model.parameters())


def test_evaluations_are_those_of_a_search_and_none_of_an_allocation(problem: Problem, plan: Plan) -> None:
    assert METHODS["frontier"].make(problem, plan, [0.7])[1] == 10
    assert METHODS["uniform"].make(problem, plan, [0.7])[1] == 0


def test_a_share_that_no_trial_is_within_is_named(problem: Problem, plan: Plan) -> None:
    with pytest.raises(PruningError, match=r"others.trials: 1, none of them is within 0.5 of the FLOPs"):
        METHODS["frontier"].make(problem, replace(plan, trials=1, ladder=[1]), [0.5])


def test_a_sliced_network_costs_what_its_recipe_does(problem: Problem) -> None:
    recipe = problem.allocate("uniform", {"flops": 0.5}).recipe
    _, masks, costs = counted(problem.inherited.build(recipe), problem.meter.validation[0][0][:1])
    assert not masks
    expected = costs_of(problem.space.network, recipe)
    assert costs == {metric: expected[metric] for metric in ("flops", "params")}


def test_zeros_are_not_counted(problem: Problem) -> None:
    module = copied(problem.meter.model)
    with torch.no_grad():
        module.conv1.weight[:, :, 0] = 0  # type: ignore[union-attr,index]
    _, masks, costs = counted(module, problem.meter.validation[0][0][:1])
    assert list(masks) == ["conv1"]
    # a row of three of the 3x3 kernels of 16 channels, at 64 places
    assert problem.dense["params"] - costs["params"] == 48
    assert problem.dense["flops"] - costs["flops"] == 48 * 64


def test_a_method_of_a_users_own_is_called_for_every_share(mine: Path, problem: Problem, plan: Plan) -> None:
    made, evaluations = Entry.of("mine.drawn").method.make(problem, plan, SHARES)
    assert evaluations == 0
    for asked, found in made.items():
        assert 0.95 * asked <= share(problem, found) <= asked + TOLERANCE


def test_what_is_no_network_is_refused(mine: Path, problem: Problem, plan: Plan) -> None:
    with pytest.raises(PruningError, match=r"mine.nothing: it returns a int, allowed is a Recipe or a torch.nn.Module"):
        Entry.of("mine.nothing").method.make(problem, plan, SHARES)
    with pytest.raises(PruningError, match=r"'mine.dense\+reconstruct', but it returns modules, allowed is mine.dense"):
        Entry.of("mine.dense+reconstruct").method.make(problem, plan, SHARES)


def test_the_methods_of_the_configuration_are_known() -> None:
    (config,) = compose([], config="bench")
    assert [Entry.of(name).name for name in config["others"]["methods"]] == config["others"]["methods"]


TABLE = pd.DataFrame(
    {
        "method": ["dense", "a", "a", "a", "b"],
        "space": ["inner", "inner", "inner", "inner", "filter"],
        "seed": [0, 0, 1, 0, 0],
        "asked": [1.0, 0.5, 0.5, 0.25, 0.5],
        "flops": [1.0, 0.5, 0.48, 0.25, 0.49],
        "params": [1.0, 0.5, 0.5, 0.3, 0.5],
        "epochs": 0,
        "error": 0.0,
        "test_error": [0.1, 0.2, 0.4, 0.6, 0.25],
        "test_images": 1000,
        "evaluations": [0, 8, 8, 8, 0],
        "tool": "",
    }
)


def test_tables_have_the_median_and_the_range_of_the_seeds() -> None:
    assert markdown(TABLE).splitlines() == [
        "Just pruned:",
        "",
        "| method | space | evaluations | 50 % | 25 % |",
        "|---|---|---|---|---|",
        "| dense |  | 0 | 10.0 at 100.0 | 10.0 at 100.0 |",
        "| a | inner | 8 | 30.0 (20.0 to 40.0) at 49.0 | 60.0 at 25.0 |",
        "| b | filter | 0 | 25.0 at 49.0 |  |",
    ]


def test_points_of_the_figure_are_medians_in_per_cent() -> None:
    data = others_data(TABLE, 0)
    assert list(data) == ["dense", "a (inner)", "b (filter)"]
    assert data["a (inner)"].to_numpy().ravel() == pytest.approx([25, 60, 49, 30])
    assert others_data(TABLE, 3) == {}
    assert len(others_figure(pd.concat([TABLE, TABLE.assign(epochs=3)])).axes) == 2


def test_a_tool_that_is_missing_is_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not _there(Entry.of("fastnas"))
    assert _there(Entry.of("uniform"))
    said = " ".join(capsys.readouterr().out.split())
    assert "fastnas is left out" in said
    assert "pip install --no-deps nvidia-modelopt" in said


@pytest.mark.slow
def test_contestants_meet_and_are_kept(mine: Path) -> None:
    given = [
        *published(mine, "others"),
        "others.methods=[uniform,uniform+reconstruct,mine.drawn,torch_masks]",
        *("others.ratios=[0.6]", "others.images=20", "others.epochs=1", "others.finetuning.images=64"),
    ]
    assert run_bench(["others", *given]) == 0
    folder = Path("results") / "bench" / "others"
    table = pd.read_csv(folder / "others-resnet20.csv")
    met = table.groupby(["method", "space"], sort=False)["epochs"].agg(list).to_dict()
    twice = [0, 1]
    assert met == {
        ("dense", "inner"): twice,
        ("uniform", "inner"): twice,
        ("mine.drawn", "inner"): twice,
        ("torch_masks", "inner"): twice,
        ("uniform+reconstruct", "inner"): twice,
        ("uniform", "filter"): twice,
        ("uniform+reconstruct", "filter"): twice,
    }
    assert (table.loc[table["method"] != "dense", "flops"] <= 0.6 + TOLERANCE).all()
    assert (table["test_images"] == 20).all()
    assert (folder / "others-resnet20.png").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("resnet20-*.csv")}
    assert len(kept) == 14
    assert run_bench(["others", *given]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("resnet20-*.csv")} == kept
    # more than its share
    with pytest.raises(
        PruningError, match=r"others.methods: mine.dense gives 1 of the FLOPs, allowed is at most 0.605"
    ):
        run_bench(["others", *given, "others.methods=[mine.dense]"])
