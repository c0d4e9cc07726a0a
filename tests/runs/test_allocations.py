"""Allocations: small ones against hand-made figures, large ones against their targets, and baselines of runs."""

from __future__ import annotations

import json
from functools import cache
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

import explorer
from explorer import models
from explorer.analysis.plots import BASELINES, pareto_data
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.tables import Scale
from explorer.bench import run_bench
from explorer.bench.criteria import summary
from explorer.evaluation.allocated import evaluated
from explorer.evaluation.evaluator import Inherited
from explorer.pruning.allocation import (
    ALLOCATIONS,
    CHOOSERS,
    Allocated,
    FreeAxis,
    FreeSpace,
    allocate,
    allocated_family,
    asked_baselines,
)
from explorer.pruning.allocation.landing import SLACK
from explorer.pruning.criteria import CRITERIA, Scores, score
from explorer.runs.baselines import missing_baselines
from explorer.runs.composing import compose
from explorer.runs.config import RunConfig
from explorer.runs.identity import default_name, sweep_name
from explorer.search.jobs import Job
from explorer.tracing import trace
from explorer.utils.conf import run_section
from explorer.utils.space_section import named_space
from spaces import Network, PruningError, PruningSpace, Recipe, costs_of
from tests.support.known import COUNTED
from tests.support.quick_runs import QUICK, table
from tests.support.random_models import RandomModel
from tests.support.synthetic import chain, config, space_of

SHARED = Path(__file__).parents[3] / "shared"
NETWORKS = ["resnet20", "resnet56", "mobilenet_v2"]
FAMILIES = ["channels", "element", "vector", "kernel", "block", "tile", "tile_element", "tile_vector"]
TARGETS = list(product(COUNTED, [0.75, 0.5, 0.35]))


@cache
def traced(name: str) -> tuple[nn.Module, Network, Scores]:
    torch.manual_seed(0)
    model = models.build(name, in_channels=3).eval()
    network = trace(model, torch.zeros(1, 3, 32, 32), verify=False)
    return model, network, score(model, network, "l1")


def problem_of(space: PruningSpace, scores: Scores, criterion: str = "l1", timings: Any = None) -> Any:
    """All that an allocation takes."""
    return SimpleNamespace(space=space, scores=scores, quadratic=CRITERIA[criterion].quadratic, timings=timings)


def allocated(problem: Any, name: str, target: Any, family: str | None = None) -> Allocated:
    options = {"quadratic": problem.quadratic, "timings": problem.timings}
    return allocate(problem.space, problem.scores, name, target, family=family, **options)


def named(name: str, network: str = "resnet20") -> Any:
    _, traced_network, scores = traced(network)
    return problem_of(PruningSpace.from_config(traced_network, named_space(name)), scores)


def scores_of(network: Network, seed: int = 0) -> Scores:
    """Random scores of everything; a third of them equal."""
    rng = np.random.default_rng(seed)
    weights = {
        layer.weight: torch.from_numpy(rng.integers(1, 9, [dim.length for dim in network.tensor[layer.weight].dims]))
        for layer in network.layers
    }
    channels = {unit.name: torch.from_numpy(rng.integers(1, 9, unit.atoms).astype(float)) for unit in network.units}
    return Scores({name: values.float() for name, values in weights.items()}, channels)


def weights_config(**pattern: Any) -> dict[str, Any]:
    return {"weights": [{"match": "*", "choices": [{"granularity": "none"}, pattern]}]}


# --- landing


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("network", NETWORKS)
def test_channels_land_within_half_a_percent_of_every_target(network, allocation):
    problem = named("filter", network)
    for metric, asked in TARGETS:
        found = allocated(problem, allocation, {metric: asked})
        cost = costs_of(problem.space.network, found.recipe)[metric] / problem.space.dense[metric]
        assert cost == pytest.approx(asked, rel=SLACK)
        assert found.achieved == cost
        assert found.recipe == found.recipe.canonical(problem.space.network)
        assert found.recipe.granularity(problem.space.network) == "filter"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_a_mixed_space_lands_alone(family):
    problem = named("mixed")
    for allocation, (metric, asked) in product(ALLOCATIONS, [("flops", 0.5), ("bytes", 0.75)]):
        found = allocated(problem, allocation, {metric: asked}, family=family)
        cost = costs_of(problem.space.network, found.recipe)[metric] / problem.space.dense[metric]
        assert cost == pytest.approx(asked, rel=SLACK)
        # the dropped blocks and other granularities are left alone; a tile as its vectors is written as those
        kinds = {pattern.granularity for _, pattern in found.recipe.weights}
        assert kinds <= ({family, "vector"} if family == "tile_vector" else {family})
        assert not found.recipe.blocks
        assert Recipe.from_yaml(found.recipe.to_yaml()) == found.recipe
        assert bool(found.recipe.channels) == (family == "channels")


def test_absolute_targets_and_the_whole_network():
    problem = named("filter")
    found = allocated(problem, "global", {"params": "100k"})
    assert found.achieved == pytest.approx(100_000, rel=SLACK)
    assert costs_of(problem.space.network, found.recipe)["params"] == found.achieved
    for name in ALLOCATIONS:
        whole = allocated(problem, name, {"flops": 1.0})
        assert (whole.recipe, whole.achieved, whole.level) == (Recipe(), 1, 1)


def test_vectors_have_ratios_of_their_m_only():
    found = allocated(named("mixed"), "uniform", {"params": 0.6}, family="vector")
    assert {(pattern.granularity, pattern.m) for _, pattern in found.recipe.weights} == {("vector", 4)}
    assert {pattern.ratio for _, pattern in found.recipe.weights} <= {0.25, 0.5, 0.75}


def test_axes_of_other_families_keep_what_they_can():
    network = chain([8, 8, 8, 10])
    halves = {"granularity": "filter", "ratios": [0.5, 0.25]}
    space = PruningSpace.from_config(
        network,
        {"channels": [{"match": "l0", "choices": [halves]}], **weights_config(granularity="element", ratios=[0.5])},
    )
    problem = problem_of(space, scores_of(network))
    family = "element" if "element" in space.families else "weights"
    found = allocated(problem, "global", {"params": 0.4}, family=family)
    assert found.recipe.ratios == {"l0": 0.5}
    assert costs_of(network, found.recipe)["params"] / space.dense["params"] == pytest.approx(0.4, rel=0.02)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from([*ALLOCATIONS]), st.sampled_from(COUNTED), st.floats(0, 1), st.booleans()
)
def test_random_models_land_within_half_a_percent_or_nearest(seed, name, metric, share, patterns):
    network = trace(RandomModel(seed).eval(), torch.zeros(1, 3, 4, 4), verify=False)
    try:
        file = weights_config(granularity="kernel", ratios=[0.5]) if patterns else config([1, 0.5])
        space = PruningSpace.from_config(network, file)
        problem = problem_of(space, scores_of(network, seed))
        free = FreeSpace.of(space, allocated_family(space), problem.scores)
    except PruningError:
        assume(False)
    least, most = free.costs(free.ends, metric)
    # absolute targets are above 1
    target = float(max(2, round(least + share * (most - least))))
    assume(least <= target)
    found = allocated(problem, name, {metric: target})
    cost = costs_of(network, found.recipe)[metric]
    assert found.achieved == cost
    if abs(cost - target) <= SLACK * target:
        return
    counts = [[*range(axis.least, axis.most + 1), axis.steps] for axis in free.axes]
    if np.prod([float(len(mine)) for mine in counts]) <= 20_000:
        rows = np.array(list(product(*counts)))
    else:
        mine = Recipe.of(found.recipe.ratios, found.recipe.patterns)
        base = np.array([_count(axis, mine) for axis in free.axes])
        rows = np.repeat(base[None], 2 * len(base), 0)
        for i, row in enumerate(rows):
            row[i // 2] = free.axes[i // 2].moved(int(row[i // 2]), 1 if i % 2 else -1)
    assert abs(cost - target) <= np.abs(free.costs(rows, metric) - target).min()


def _count(axis: FreeAxis, recipe: Recipe) -> int:
    ratio = recipe.ratios.get(axis.name, 1.0)
    if axis.part == "weights":
        ratio = recipe.patterns[axis.name].ratio if axis.name in recipe.patterns else 1.0
    return int(axis.nearest(np.array([ratio]))[0])


# --- allocations


@given(st.sampled_from([*ALLOCATIONS]), st.lists(st.floats(0, 1), min_size=2, max_size=6), st.booleans())
@settings(max_examples=60, deadline=None)
def test_ratios_rise_with_the_level_and_are_whole_at_its_end(name, levels, patterns):
    problem = named("mixed")
    family = "element" if patterns else "channels"
    free = FreeSpace.of(problem.space, family, problem.scores)
    rows = free.nearest(ALLOCATIONS[name](free.axes)(np.array([*sorted(levels), 1.0])))
    assert (np.diff(rows, axis=0) >= 0).all()
    assert (rows >= free.ends[0]).all()
    assert (rows[-1] == free.ends[1]).all()


def axis(scores: list[float], entries: int = 1, spread: int = 1, *, quadratic: bool = False) -> FreeAxis:
    steps = len(scores)
    made = np.array(scores, dtype=float)
    return FreeAxis("channels", "a", steps, 1, steps - 1, None, None, entries, spread, made, quadratic)


def test_uniform_is_the_level():
    assert ALLOCATIONS["uniform"]([axis([1]), axis([2])])(np.array([0.3, 1])).tolist() == [[0.3, 0.3], [1, 1]]


@pytest.mark.parametrize(("kept", "expected"), [(2, [1, 1]), (3, [2, 1]), (4, [3, 1]), (5, [3, 2])])
def test_lamp_divides_squares_by_those_that_are_not_smaller(kept, expected):
    # 9/9, 4/13, 1/14 and 16/16, 1/17
    ratios = ALLOCATIONS["lamp"]([axis([3, 2, 1]), axis([4, 1])])(np.array([kept / 5]))
    assert ratios[0] == pytest.approx([expected[0] / 3, expected[1] / 2])
    squared = ALLOCATIONS["lamp"]([axis([9, 4, 1], quadratic=True), axis([16, 1], quadratic=True)])
    assert squared(np.array([kept / 5])).tolist() == ratios.tolist()


def test_erk_gives_what_exceeds_one_to_the_others():
    # weights of 10 x 10 and 10 x 5: densities in the ratio of .2 to .3; the second is full from 50 + 66.7 weights on
    erk = ALLOCATIONS["erk"]([axis([1], 100, 20), axis([1], 50, 15)])
    assert erk(np.array([0.5]))[0] == pytest.approx([75 / 35 * 0.2, 75 / 35 * 0.3])
    assert erk(np.array([0.9]))[0] == pytest.approx([0.85, 1])
    assert erk(np.array([1.0]))[0] == pytest.approx([1, 1])


def test_erk_of_a_network_is_made_of_its_weights():
    space = space_of(chain([8, 4, 10]), [1, 0.5])
    free = FreeSpace.of(space, "channels")
    assert [(one.entries, one.spread) for one in free.axes] == [(8 * 3, 8 + 3), (4 * 8, 4 + 8)]


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8])
def test_global_is_sorting_by_hand(level):
    network = chain([6, 5, 7])
    scores = scores_of(network)
    for part, space, found in [
        ("channels", space_of(network, [1, 0.5]), scores.channels),
        (
            "weights",
            PruningSpace.from_config(network, weights_config(granularity="element", ratios=[0.5])),
            {layer.name: scores.weights[layer.weight].flatten().double() for layer in network.layers},
        ),
    ]:
        free = FreeSpace.of(space, part, scores)
        ranked = sorted(
            (-float(value) / float(values.mean()), place)
            for place, values in enumerate(found[axis.name] for axis in free.axes)
            for value in values
        )
        kept = [place for _, place in ranked[: int(level * len(ranked) + 0.5)]]
        expected = [max(1, kept.count(place)) for place in range(len(free.axes))]
        assert free.nearest(ALLOCATIONS["global"](free.axes)(np.array([level])))[0].tolist() == expected


def test_scaling_a_layer_changes_no_global_allocation():
    network = chain([6, 5, 7])
    space = PruningSpace.from_config(network, weights_config(granularity="element", ratios=[0.5]))
    scores = scores_of(network)
    scaled = Scores({name: values * (100 if "l1" in name else 1) for name, values in scores.weights.items()}, {})
    for name in ("global", "lamp"):
        ours, theirs = (allocated(problem_of(space, one), name, {"params": 0.5}).recipe for one in (scores, scaled))
        assert ours == theirs


def test_groups_keep_equally_many_and_the_best_of_each():
    network = chain([8, 6, 10], groups=2)
    scores = Scores({}, {"l0": torch.tensor([9.0, 1, 1, 1, 9, 1, 1, 1]).double(), "l1": torch.ones(6).double()})
    free = FreeSpace.of(space_of(network, [1, 0.5]), "channels", scores)
    assert free.axes[0].scores.tolist() == [3, pytest.approx(1 / 3), pytest.approx(1 / 3), pytest.approx(1 / 3)]
    assert free.ends.tolist() == [[1, 1], [4, 3]]


# --- latency


def latencies(network: Network, asked: list[Recipe]) -> Any:
    """A machine on which a recipe takes a millisecond and another for every tenth of the FLOPs."""
    dense = costs_of(network, Recipe())["flops"]

    def timings(recipe: Recipe) -> dict[str, float]:
        asked.append(recipe)
        ms = 1 + 10 * costs_of(network, recipe)["flops"] / dense
        return {"latency_ms": ms, "latency_ms_q1": 0.9 * ms, "latency_ms_q3": 1.1 * ms, "latency_dense_ms": 11.0}

    return timings


@pytest.mark.parametrize(("target", "expected"), [({"latency": 0.5}, 0.5), ({"latency_ms": 4}, 4)])
def test_latency_is_bisected_with_few_measurements(target, expected):
    _, network, scores = traced("resnet20")
    asked: list[Recipe] = []
    space = PruningSpace.from_config(network, named_space("filter"))
    found = allocated(problem_of(space, scores, timings=latencies(network, asked)), "global", target)
    assert found.achieved == pytest.approx(expected, rel=SLACK)
    assert found.quartiles == pytest.approx((0.9 * found.achieved, 1.1 * found.achieved))
    assert "quartiles" in str(found)
    assert len(asked) <= 12
    assert found.recipe in asked


def test_a_latency_that_no_row_has_ends_with_the_nearest_and_is_said(caplog):
    network = chain([2, 2, 4])
    asked: list[Recipe] = []
    problem = problem_of(space_of(network, [1, 0.5]), scores_of(network), timings=latencies(network, asked))
    with caplog.at_level("WARNING"):
        found = allocated(problem, "uniform", {"latency_ms": 10})
    measured = [problem.timings(recipe)["latency_ms"] for recipe in list(asked)]
    assert found.achieved == min(measured, key=lambda ms: abs(ms - 10))
    assert "the nearest to 10 that was measured" in caplog.text


# --- mistakes

MISTAKES = [
    ({"name": "lmap"}, "allocation: 'lmap' is unknown, did you mean 'lamp'?"),
    ({"target": {"flop": 0.5}}, "target: 'flop' is unknown, did you mean 'flops'?"),
    ({"target": {}}, "target: {}, allowed is one metric"),
    ({"target": {"flops": 0.5, "params": 0.5}}, "allowed is one metric and its value"),
    ({"target": {"flops": [0.2, 0.5]}}, "target.flops: [0.2, 0.5], allowed is one amount"),
    ({"target": {"flops": "many"}}, "target.flops: 'many' is no amount"),
    ({"target": {"latency": -1}}, "target.latency: -1, allowed is a number > 0"),
    ({"target": {"flops": 0.001}}, "flops: 0.001 is out of reach, allowed is "),
    ({"target": {"params": "9G"}}, "params: '9G' is out of reach, allowed is "),
    ({"target": {"latency_ms": 100}}, "latency_ms: 100 is out of reach, allowed is "),
    ({"family": "tiles"}, "family: 'tiles' is unknown"),
    ({"family": None}, "family: not given, and needed in a space of several: channels, element"),
    ({"family": "blocks"}, "family: 'blocks' is unknown"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_are_one_line(change, message):
    problem = named("mixed")
    problem.timings = latencies(problem.space.network, [])
    given: dict[str, Any] = {"name": "global", "target": {"flops": 0.5}, "family": "channels"} | change
    with pytest.raises(PruningError) as caught:
        allocated(problem, given["name"], given["target"], family=given["family"])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_units_of_one_channel_are_a_line_too():
    network = chain([1, 1, 3])
    with pytest.raises(PruningError, match="space: no unit or weight of its channels is large enough to be pruned"):
        allocated(problem_of(space_of(network, [1, 0.5]), scores_of(network)), "global", {"flops": 0.5})


def test_a_space_of_blocks_has_nothing_to_allocate():
    with pytest.raises(PruningError, match="family: the space has blocks only"):
        allocated(named("layer"), "uniform", {"flops": 0.5})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("baselines=[globl]", "baselines: 'globl' is unknown, did you mean 'global'?"),
        ("baselines=global", "baselines: 'global', allowed is a list of uniform, global, lamp, erk"),
        ("baseline_targets.flops=0.5", "baseline_targets.flops: 0.5, allowed is a list"),
        ("baseline_targets.flops=[x]", "baseline_targets.flops: 'x' is no amount"),
        ("baseline_targets.latency=[0]", "baseline_targets.latency: 0, allowed is a number > 0"),
        ("baseline_family=3", "baseline_family: 3, allowed is the name"),
    ],
)
def test_mistakes_in_a_configuration_are_found_before_anything_is_loaded(override, message):
    with pytest.raises(PruningError) as caught:
        RunConfig.of(compose([override])[0])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_baselines_without_targets_are_a_mistake():
    with pytest.raises(PruningError, match="baseline_targets: every list is empty"):
        RunConfig.of(compose(["baselines=[global]", "baseline_targets.flops=[]"])[0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["baseline_targets.flops=[0.0001]"], "baseline_targets.flops: 0.0001 is out of reach, allowed is"),
        (["space=mixed"], "baseline_family: not given, and needed in a space of several"),
        (["baseline_family=tile"], "baseline_family: 'tile' is unknown"),
    ],
)
def test_what_a_space_cannot_do_is_found_before_training(explore, folder, overrides, message):
    code, _, err = explore("run", *QUICK, "name=nothing", "baselines=[global]", *overrides)
    assert (code, err.count("\n")) == (2, 1)
    assert message in err
    assert not (folder / "results" / "nothing").exists()


# --- runs


def test_baselines_change_no_name():
    plain = default_name(compose([])[0])
    more = ["baselines=[lamp]", "baseline_targets.params=[.5]", "baseline_family=channels"]
    assert default_name(compose(more)[0]) == plain
    sweep = ["seed=0,1"]
    assert sweep_name(compose(sweep), sweep) == sweep_name(compose([*sweep, *more]), [*sweep, *more])


def test_baselines_of_two_tiles_are_two(tmp_path):
    names = set()
    for width in (4, 8):
        asked = asked_baselines(["uniform"], run_section("baseline_targets", {"flops": [0.5]}), f"tile(width={width})")
        names |= {baseline.name for baseline in missing_baselines(RunFolder(tmp_path), asked)}
    assert names == {"baseline-uniform-tile-width-4-flops-0.5", "baseline-uniform-tile-width-8-flops-0.5"}


def test_a_run_has_its_baselines_once_and_a_finished_one_gets_more(explore, folder, monkeypatch):
    run = folder / "results" / "compared"
    command = ["run", *QUICK, "name=compared", "trials=4", "ladder=2"]
    explore(*command)
    plain, front = table(run), (run / "frontier.csv").read_bytes()
    evaluations = []
    call = Inherited.__call__
    monkeypatch.setattr(Inherited, "__call__", lambda self, job: evaluations.append(job.recipe) or call(self, job))
    code, out, err = explore(*command, "baselines=[uniform,global]", "baseline_targets.flops=[0.5]")
    assert code == 0, err
    assert "baselines" in out
    assert len(evaluations) == 2
    pd.testing.assert_frame_equal(table(run), plain)
    assert (run / "frontier.csv").read_bytes() == front
    made = pd.read_csv(run / "baselines.csv")
    assert made["baseline"].tolist() == ["baseline-uniform-flops-0.5", "baseline-global-flops-0.5"]
    assert (made["achieved"] - 0.5).abs().max() <= SLACK * 0.5
    network = Network.load(run / "network.yaml")
    for name, recipe in zip(made["baseline"], evaluations, strict=True):
        assert Recipe.load(run / "recipes" / f"{name}.yaml") == recipe == recipe.canonical(network)
    # those that are there are not evaluated again, and a run with all of them is answered at once
    explore(*command, "baselines=[global,erk]", "baseline_targets.flops=[0.5]")
    assert len(evaluations) == 3
    code, out, _ = explore(*command, "baselines=[global,uniform]", "baseline_targets.flops=[0.5]")
    assert (code, len(evaluations)) == (0, 3)
    assert "is finished" in out
    # the search goes on beside them as if they were not there
    code, _, err = explore(*command[:-2], "trials=5", "ladder=2", "baselines=[erk]", "baseline_targets.flops=[0.5]")
    assert code == 0, err
    assert len(evaluations) == 4
    pd.testing.assert_frame_equal(table(run).iloc[:4], plain)
    assert len(pd.read_csv(run / "baselines.csv")) == 3
    assert json.loads((run / "summary.json").read_text())["trials"] == 5
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    name = "baseline-global-flops-0.5"
    code, _, err = explore("export", str(run), "--recipe", str(run / "recipes" / f"{name}.yaml"))
    assert code == 0, err
    record = json.loads((run / "export" / name / "model.json").read_text())
    row = made.set_index("baseline").loc[name]
    assert record["metrics"]["error"] == pytest.approx(row["error"])
    module = explorer.load(run / "export" / name)
    assert sum(p.numel() for p in module.parameters()) == record["metrics"]["params"] == row["params"]
    for extra, message in ((["--flops", "0.5"], "recipe: it is given, and so is --flops"), ([], "can't be read")):
        code, _, err = explore("export", str(run), "--recipe", "nowhere.yaml", *extra)
        assert (code, err.count("\n")) == (2, 1)
        assert message in err


def test_a_baseline_that_fails_is_a_row_with_its_reason(explore, folder, monkeypatch):
    call = Inherited.__call__

    def broken(self, job):
        if not job.limited:
            raise RuntimeError("out of memory\nand more")
        return call(self, job)

    monkeypatch.setattr(Inherited, "__call__", broken)
    command = ["run", *QUICK, "name=broken", "trials=2", "ladder=0", "baselines=[erk]", "baseline_targets.flops=[.5]"]
    code, out, _ = explore(*command)
    assert code == 0
    assert "out of memory" in out
    made = pd.read_csv(folder / "results/broken/baselines.csv")
    assert made[["state", "reason"]].to_numpy().tolist() == [["FAIL", "RuntimeError: out of memory"]]
    code, out, _ = explore(*command)
    assert "is finished" in out


def small_study(**options: Any) -> explorer.Study:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    batches = [(torch.randn(8, 6), torch.arange(8) % 3) for _ in range(2)]
    return explorer.explore(model, batches, batches, trials=2, ladder=0, sampler="random", **options)


def test_a_study_allocates_candidates(tmp_path):
    study = small_study(criterion="l2")
    before = study.trials
    candidate = study.allocate("lamp", params=0.5)
    assert candidate.metrics["achieved"] == candidate.metrics["params_ratio"] == pytest.approx(0.5, rel=SLACK)
    assert (candidate.metrics["asked"], candidate.metrics["allocation"]) == (0.5, "lamp")
    assert 0 <= candidate.metrics["error"] <= 1
    module = candidate.build()
    assert sum(p.numel() for p in module.parameters()) == candidate.metrics["params"]
    candidate.save(tmp_path / "small")
    x = torch.randn(2, 6)
    torch.testing.assert_close(explorer.load(tmp_path / "small", trust=True)(x), module(x))
    pd.testing.assert_frame_equal(study.trials, before)


def test_budgets_do_not_hold_for_baselines():
    study = small_study(budget={"latency_ms": 1e6})
    problem = study.problem
    problem.meter.latency = type(problem.meter.latency)(1e-6, None)
    recipe = problem.space[3]
    with pytest.raises(PruningError, match="over the budget"):
        problem.evaluator(Job(-1, recipe))
    found = Allocated("uniform", "channels", "flops", 0.5, 0.5, 0.5, recipe)
    assert evaluated(problem.evaluator, problem.space, found)["latency_ms"] > 0


def test_a_pareto_plot_shows_baselines_that_have_what_it_shows():
    trials = pd.DataFrame(
        {"state": ["COMPLETE"], "source": ["search"], "flops": [5e5], "flops_ratio": [0.5], "error": [0.2]}
    )
    made = pd.DataFrame(
        {"state": ["COMPLETE", "FAIL"], "allocation": ["lamp", "erk"], "flops": [4e5, np.nan], "error": [0.3, np.nan]}
    )
    scale, dense = Scale(["error", "flops"], {"error": 0.9}), {"flops": 1e6, "error": 0.1}
    assert set(BASELINES) == {*ALLOCATIONS, *CHOOSERS}
    data = pareto_data(trials, dense, scale, "flops", "error", made)
    assert data[data["kind"] == "lamp"][["x", "y"]].to_numpy()[0] == pytest.approx([0.4, 30])
    assert "erk" not in set(data["kind"])
    assert set(data["kind"]) == {"search", "frontier", "dense", "lamp"}


# --- the benchmark


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the shared weights and images")
def test_the_bench_of_criteria_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = SHARED / "weights" / "resnet20-cifar10-jpeg.safetensors"
    paths = [f"criteria.data={SHARED / 'data' / 'cifar10-jpeg'}", f"criteria.weights={weights}"]
    small = ["images=20", "test_images=20", "calibration_batches=1", "seeds=1", "ratios=[0.5]"]
    assert run_bench(["criteria", *paths, *(f"criteria.{option}" for option in small)]) == 0
    outcomes = pd.read_csv(tmp_path / "results/bench/criteria-resnet20.csv")
    assert len(outcomes) == 2 * len(CRITERIA) + 2
    assert outcomes["flops"].to_numpy() == pytest.approx(0.5, rel=SLACK)
    lines = (tmp_path / "results/bench/criteria-resnet20.md").read_text().splitlines()
    assert len(lines) == len(outcomes) + 3


def test_the_bench_of_criteria_says_what_it_needs():
    with pytest.raises(PruningError, match=r"^criteria.data: not given, needed is the folder of cifar10-jpeg$"):
        run_bench(["criteria"])


def test_the_bench_of_criteria_averages_over_seeds():
    rows = [("taylor", seed, 0.5 + 0.01 * seed, 0.1 * (seed + 1)) for seed in range(3)] + [("l1", 0, 0.5, 0.4)]
    outcomes = pd.DataFrame(rows, columns=["criterion", "seed", "flops", "error"])
    found = summary(outcomes.assign(allocation="global", asked=0.5, params=0.3, test_error=0.2))
    assert found["criterion"].tolist() == ["taylor", "l1"]
    assert found["error"].tolist() == pytest.approx([20, 40])
    assert found["error_sd"].tolist() == pytest.approx([10, np.nan], nan_ok=True)
    assert found["flops"].tolist() == pytest.approx([51, 50])
    assert found["seeds"].tolist() == [3, 1]
