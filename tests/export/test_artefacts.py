"""Every artefact equals the torch module: of built-in networks and of three libraries, with patterns and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import explorer
from explorer.bench.zoo import built, listed
from explorer.data.task import classification
from explorer.export.onnx import TOLERANCE, checked_onnx
from explorer.models import build
from explorer.pruning.criteria import Options, cached_scores
from explorer.pruning.pruner import Pruner
from explorer.tracing import trace
from explorer.utils.modules import run
from explorer.utils.programs import difference, program_of
from explorer.utils.runtime_names import ONNX, missing
from spaces import PruningSpace, Recipe
from tests.support import foreign
from tests.support.identities import fresh

pytestmark = pytest.mark.skipif(missing(ONNX) is not None, reason="no ONNX Runtime")

# a torchvision that was built for another torch lacks its operators here
_DECLARED = None if foreign.missing("torchvision") else foreign.declare_operators()
OTHERS = [("torchvision", "mobilenet_v3_small"), ("timm", "tinynet_e"), ("transformers", "distilbert")]
CASES: list[Any] = [pytest.param("explorer", "vit_digits")]
CASES += [pytest.param("explorer", name, marks=pytest.mark.slow) for name in ("resnet20", "mobilenet_v2")]
CASES += [
    pytest.param(library, name, marks=[pytest.mark.slow, pytest.mark.skipif(foreign.missing(library), reason=library)])
    for library, name in OTHERS
]


def network_of(library: str, name: str) -> tuple[nn.Module, Any]:
    if library == "explorer":
        shape = (1, 8, 8) if name.endswith("digits") else (3, 32, 32)
        return build(name), torch.randn(1, *shape)
    return built(library, name, listed()[library][name])


def recipe_of(space: PruningSpace, *, patterns: bool) -> Recipe:
    if not patterns:
        return space.recipe(space.uniform(0.5, "channels"))
    recipes = map(space.recipe, space.sample(50, np.random.default_rng(0)))
    return next(r for r in recipes if len({pattern.granularity for _, pattern in r.weights}) > 1)


MIXED = {
    "channels": [{"match": "*", "choices": [{"granularity": "filter", "ratios": [1, 0.5]}]}],
    "weights": [
        {
            "match": "*",
            "choices": [
                {"granularity": "none"},
                {"granularity": "element", "ratios": [0.5]},
                {"granularity": "tile", "width": 16, "ratios": [0.5]},
            ],
        }
    ],
}


@pytest.mark.parametrize("patterns", [False, True], ids=["channels", "patterns"])
@pytest.mark.parametrize(("library", "name"), CASES)
def test_onnx_and_the_program_are_the_module(library: str, name: str, patterns: bool, tmp_path: Path) -> None:
    model, example = network_of(library, name)
    model = fresh(model, torch.float32)
    network = trace(model, example, verify=False)
    space = PruningSpace.from_config(network, MIXED)
    scores = cached_scores(model, network, Options.of("l1"), batches=[], task=classification(10), folder=None)
    recipe = recipe_of(space, patterns=patterns)
    module, masks = Pruner(model, network, scores)(recipe)
    module = module.eval()
    program = program_of(module, example)
    inputs = torch.utils._pytree.tree_map(lambda leaf: torch.cat([leaf] * 3) if leaf.dim() else leaf, example)
    _, far = checked_onnx(module, program, inputs, tmp_path / "model.onnx")
    assert far <= TOLERANCE
    explorer.save(module, recipe, network, tmp_path / "export", masks=masks, example=example)
    with torch.no_grad():
        assert difference(run(explorer.load(tmp_path / "export", trust=True), inputs), run(module, inputs)) == 0
