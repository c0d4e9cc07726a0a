"""The naive loop: its networks are ours, and both loops are measured."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from explorer.bench import run_bench
from explorer.bench.naive import Clock, _figures, pruned_by_hand
from explorer.bench.others.costs import multiply_adds
from explorer.models import MODELS
from explorer.pruning.criteria import score
from explorer.pruning.pruner import Pruner
from explorer.tracing import trace
from spaces import Recipe, costs_of, dense_costs
from tests.support.published import published


def test_what_is_cut_by_hand_has_the_shapes_and_the_costs_of_the_recipe() -> None:
    torch.manual_seed(0)
    model, example = MODELS["resnet_digits"]().eval(), torch.rand(1, 1, 8, 8)
    network = trace(model, example)
    blocks = [name for name, part in model.named_modules() if type(part).__name__ == "BasicBlock"]
    recipe = Recipe.of({f"{name}.conv1": 0.5 for name in blocks})
    by_hand = pruned_by_hand(model, dict.fromkeys(blocks, 0.5))
    ours = Pruner(model, network, score(model, network))(recipe)[0]
    assert [p.shape for p in by_hand.parameters()] == [p.shape for p in ours.parameters()]
    assert multiply_adds(model, example) == dense_costs(network)["flops"]
    assert multiply_adds(by_hand, example) == costs_of(network, recipe)["flops"]
    # filters by their magnitude, readers with them
    whole = pruned_by_hand(model, dict.fromkeys(blocks, 1.0))
    assert torch.equal(whole(example), model(example))
    norms = model.get_submodule(f"{blocks[0]}.conv1").weight.abs().sum((1, 2, 3))  # type: ignore[union-attr,operator]
    least = by_hand.get_submodule(f"{blocks[0]}.conv1").weight.abs().sum((1, 2, 3)).min()  # type: ignore[union-attr,operator]
    assert least == norms.median() or least > norms.median()


def test_figures_are_those_of_the_curves() -> None:
    clocks = {name: Clock() for name in ("naive", "study")}
    clocks["naive"].points = [(10.0, 0.5, 0.5), (20.0, 0.25, 0.5)]
    clocks["study"].points = [(1.0, 0.5, 0.5), (2.0, 0.2, 0.4), (4.0, 0.9, 0.9)]
    curves = {name: clock.curve(name, [1.0, 1.0]) for name, clock in clocks.items()}
    assert curves["naive"]["hypervolume"].tolist() == pytest.approx([0.25, 0.375])
    found = {figure.case.partition(": ")[2]: figure.value for figure in _figures(curves["naive"], curves["study"], "n")}
    assert found["candidates/s"] == pytest.approx((3 / 4) / (2 / 20))
    assert found["seconds until its hypervolume"] == pytest.approx(2 / 20)
    never = _figures(curves["study"], curves["naive"], "n")
    assert math.isinf(next(figure.value for figure in never if "until" in figure.case))


@pytest.mark.slow
def test_both_loops_have_their_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [*published(tmp_path, "naive"), "naive.model=resnet20", "naive.images=20", "naive.minutes=0.3"]
    assert run_bench(["naive", *given]) == 0
    curves = pd.read_csv(Path("results") / "bench" / "naive-curves.csv")
    assert set(curves["loop"]) == {"naive", "study"}
    assert curves["flops"].between(0, 1).all()
    assert (curves.groupby("loop")["hypervolume"].diff().dropna() >= 0).all()
