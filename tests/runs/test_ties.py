"""Tied units and hardware's widths through a whole exploration: what is built is what was counted."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

import explorer
from explorer import models
from explorer.pruning.allocation import ALLOCATIONS, Offer
from explorer.runs.config import RunConfig
from explorer.runs.inspection import inspect_model
from explorer.utils.space_section import named_space, space_of
from spaces import PruningSpace

MLP = "blocks.*.layer.up"
SPACES = {
    "filter": {"tie": MLP},
    "with a divisor": {"tie": MLP, "divisor": 16},
    "tile": {"tie": ["blocks.*.layer.up", "blocks.*.layer.down"]},
}


def study_of(name: str, **options: Any) -> explorer.Study:
    torch.manual_seed(0)
    model = models.build("vit_digits", in_channels=1).eval()
    batches = [(torch.randn(16, 1, 8, 8), torch.arange(16) % 10) for _ in range(2)]
    space = {**named_space("tile" if name == "tile" else "filter"), **SPACES[name]}
    return explorer.explore(model, batches, batches, space=space, ladder=3, **options)


@pytest.mark.filterwarnings("ignore:the dense network has")
@pytest.mark.parametrize(("name", "sampler"), [*((name, "frontier") for name in SPACES), ("filter", "tpe")])
def test_sub_networks_of_a_vit_with_all_mlps_tied(name, sampler):
    study = study_of(name, trials=6, sampler=sampler)
    space = study.problem.space
    tied = [axis for axis in space.axes if axis.members]
    assert [len(axis.members) for axis in tied] == [4] * len(tied)
    assert len(tied) == (2 if name == "tile" else 1)
    assert set(study.trials["state"]) == {"COMPLETE"}
    assert {axis.label for axis in space.axes} <= set(study.trials)
    widths = set()
    for record in study.records:
        recipe = space.recipe(record.row)
        module = study.problem.inherited.build(recipe)
        if name != "tile":
            found = {module.get_submodule(one.name).weight.shape[0] for one in tied[0].members}
            assert len(found) == 1
            widths |= found
            count = sum(parameter.numel() for parameter in module.parameters())
            assert count == space.costs(record.row[None])["params"][0]
        else:
            patterns = {recipe.patterns.get(one.name) for one in tied[0].members}
            assert len(patterns) == 1
    if name == "with a divisor":
        assert all(width % 16 == 0 for width in widths)
    table = study.sensitivity
    assert set(table["axis"]) == {axis.label for axis in space.axes}
    assert (table["change"][table["ratio"] == 1] == 0).all()


@pytest.mark.filterwarnings("ignore:the dense network has")
def test_allocations_of_choices_keep_ties_and_others_are_free_of_them():
    study = study_of("with a divisor", trials=1)
    names = [one.name for axis in study.problem.space.axes for one in axis.members]
    for name in ("knapsack", "threshold"):
        candidate = study.allocate(name, flops=0.6)
        assert candidate.recipe in study.problem.space
        assert candidate.metrics["achieved"] <= 0.6
        assert len({candidate.recipe.ratios.get(unit, 1.0) for unit in names}) == 1
    for name in ALLOCATIONS:
        assert study.allocate(name, flops=0.6).metrics["achieved"] == pytest.approx(0.6, rel=0.005)
    offer = Offer(study.problem.space, study.problem.features.changes, "flops")
    assert (offer.costs(offer.ends) == np.array(study.problem.space.bounds["flops"])).all()


def test_inspect_says_what_is_tied(capsys):
    config = RunConfig.composed(["model=vit_digits", f"space.tie={MLP}", "space.divisor=8"])
    inspect_model(config, as_json=True)
    facts = json.loads(capsys.readouterr().out)
    tied = [axis for axis in facts["axes"] if "members" in axis]
    assert [(axis["name"], len(axis["members"])) for axis in tied] == [(MLP, 4)]
    assert {len(one["choices"]) for one in tied[0]["members"]} == {len(tied[0]["choices"])}


def test_a_file_has_the_keys_too_and_the_command_changes_them(tmp_path):
    path = tmp_path / "own.yaml"
    lists = "channels:\n  - {match: '*', choices: [{granularity: filter, ratios: [1, 0.5]}]}\n"
    path.write_text(f"{lists}divisor: 8\ntie: 'blocks.*.layer.up'\n")
    found = space_of({"path": path, "divisor": None, "tie": None})
    assert (found["divisor"], found["tie"]) == (8, MLP)
    assert space_of({"path": path, "divisor": 16, "tie": None})["divisor"] == 16
    PruningSpace.check(found)
    config = RunConfig.composed(["space=file", f"space.path={path}", "space.divisor=32"])
    assert config.space["divisor"] == 32
