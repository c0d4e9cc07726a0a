"""What was trained after `build` is what is saved, loaded and told of."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import explorer
from explorer.candidate import Candidate
from spaces import PruningError

SPACE = {
    "channels": [{"match": "0", "choices": [{"granularity": "filter", "ratios": [0.5]}]}],
    "weights": [{"match": "2", "choices": [{"granularity": "element", "ratios": [0.5]}]}],
}


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=generator)
    return x, x[:, :3].argmax(1)


@pytest.fixture
def best(batch) -> Candidate:
    torch.manual_seed(0)
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return explorer.explore(model, [batch], [batch], space=SPACE, trials=1, ladder=0, sampler="random").best()


def fitted(module: nn.Module, batch: tuple[Tensor, Tensor]) -> nn.Module:
    steps = torch.optim.Adam(module.train().parameters(), 0.02)
    for _ in range(80):
        steps.zero_grad()
        F.cross_entropy(module(batch[0]), batch[1]).backward()
        steps.step()
    return module


def test_a_trained_module_is_saved_and_comes_back(best: Candidate, batch, tmp_path: Path) -> None:
    small = fitted(best.build(), batch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best.save(tmp_path, module=small)
    assert small.training
    x, y = batch
    loaded = explorer.load(tmp_path, model=net())
    torch.testing.assert_close(loaded(x), small.eval()(x))
    torch.testing.assert_close(explorer.load(tmp_path, trust=True)(x), small(x))
    metrics = json.loads((tmp_path / "model.json").read_text())["metrics"]
    assert metrics["error"] == pytest.approx(float((small(x).argmax(1) != y).float().mean()))
    assert metrics["error"] < best.metrics["error"]


def test_saving_after_a_built_module_changed_warns_that_it_is_as_measured(
    best: Candidate, batch, tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        best.save(tmp_path / "before")
        small = best.build()
        with torch.no_grad():
            small(batch[0])
        best.save(tmp_path / "before")
        pickle.loads(pickle.dumps(best)).save(tmp_path / "before")
        # of one that is gone nothing is lost
        fitted(best.build(), batch)
        best.save(tmp_path / "before")
    fitted(small, batch)
    with pytest.warns(UserWarning, match=r"as it was measured; save\(folder, module="):
        best.save(tmp_path / "after")
    metrics = json.loads((tmp_path / "after" / "model.json").read_text())["metrics"]
    assert metrics["error"] == best.metrics["error"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda small: net(), r"module: it is no module of this recipe, it has 0.weight \[16, 6\], needed is \[8, 6\]"),
        (lambda small: small[0], "it has 0.weight missing"),
        (lambda small: small[2].weight.data.add_(1) is None or small, "2.weight has other weights than 0"),
    ],
)
def test_another_module_is_refused(best: Candidate, tmp_path: Path, change, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        best.save(tmp_path / "small", module=change(best.build()))
    assert not (tmp_path / "small").exists()
