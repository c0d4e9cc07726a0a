"""A criterion of the user's: a function in Python, an import path for the command; a wrong return is one line."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

import explorer
from explorer.data.task import classification
from explorer.pruning.criteria import Options, Subject, cached_scores, score
from explorer.tracing import trace
from spaces import PruningError
from tests.support.quick_runs import QUICK

X, Y = torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2


def cubed(subject: Subject) -> Iterator[tuple[str, Tensor]]:
    """The third power of magnitudes: a score of its shape for every weight."""
    for name, weight in subject.weights.items():
        yield name, weight.abs() ** 3


def sensitivity(subject: Subject) -> dict[str, Tensor]:
    """The gradient's magnitude on the training batches, which a criterion may look at."""
    assert subject.task is not None
    assert not subject.model.training
    with torch.enable_grad():
        loss = sum(subject.task.loss(subject.model(x), y) for x, y in subject.batches)
        gradients = torch.autograd.grad(loss, list(subject.weights.values()))
    return {name: gradient.abs() for name, gradient in zip(subject.weights, gradients, strict=True)}


def raised(subject: Subject, power: float, *, scale: float = 1.0) -> dict[str, Tensor]:
    """Powers of magnitudes: a criterion with arguments."""
    return {name: scale * weight.abs() ** power for name, weight in subject.weights.items()}


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


@pytest.mark.parametrize("given", [cubed, f"{__name__}.cubed", {"name": cubed}, {"name": f"{__name__}.cubed"}])
def test_a_function_scores_weights_and_channels(given: Any) -> None:
    model = net()
    network = trace(model, X[:1])
    found = score(model, network, given, batches=[(X, Y)], task=classification(2))
    for name, weight in model.named_parameters():
        if name in found.weights:
            torch.testing.assert_close(found.weights[name], weight.detach().abs() ** 3)
    other = score(model, network, {"name": cubed, "norm": "l2"}, batches=[(X, Y)], task=classification(2))
    assert not torch.equal(found.channels["0"], other.channels["0"])


@pytest.mark.parametrize("name", [raised, f"{__name__}.raised"])
def test_further_options_are_the_function_s_arguments(name: Any) -> None:
    model = net()
    network = trace(model, X[:1])
    given = {"name": name, "power": 3, "norm": "l2"}
    found = score(model, network, given, batches=[(X, Y)], task=classification(2))
    same = score(model, network, {"name": cubed, "norm": "l2"}, batches=[(X, Y)], task=classification(2))
    torch.testing.assert_close(found.channels, same.channels)
    torch.testing.assert_close(found.weights, same.weights)


@pytest.mark.parametrize("criterion", [cubed, sensitivity, lambda subject: dict(cubed(subject))])
def test_a_study_takes_a_function_and_its_workers_need_not(criterion: Any, tmp_path: Path) -> None:
    study = explorer.explore(net(), [(X, Y)], [(X, Y)], criterion=criterion, trials=2, ladder=0, sampler="random")
    assert len(study.trials) == 2
    assert pickle.loads(pickle.dumps(study.problem.evaluator)).pruner.scores.channels.keys() == {"0"}


def test_scores_of_a_function_are_not_taken_from_files(tmp_path: Path) -> None:
    model = net()
    given: dict[str, Any] = {"batches": [(X, Y)], "task": classification(2), "folder": tmp_path}
    cached_scores(model, trace(model, X[:1]), Options.of(cubed), **given)
    assert not list(tmp_path.iterdir())


def test_the_command_takes_an_import_path(explore, folder: Path) -> None:
    code = "def cubed(subject):\n    return {name: weight.abs() ** 3 for name, weight in subject.weights.items()}\n"
    (folder / "mine.py").write_text(code)
    keys = [*QUICK, "trials=2", "ladder=0", "criterion=custom", "criterion._target_=mine.cubed"]
    done, _, err = explore("run", *keys, "name=cubed")
    assert done == 0, err
    stored = yaml.safe_load((folder / "results" / "cubed" / "config.yaml").read_text())["criterion"]
    assert (stored["name"], stored["_target_"]) == ("custom", "mine.cubed")
    assert explore("run", *keys, "name=cubed")[1].count("is finished") == 1
    # the function's file is part of what the run is
    (folder / "mine.py").write_text(code.replace("** 3", "** 5"))
    done, _, err = explore("run", *keys, "name=cubed")
    assert (done, err.count("\n")) == (2, 1)
    assert "criterion.code" in err
    done, _, err = explore("run", *keys[:-1], "criterion._target_=mine.squared", "name=other")
    assert (done, err.count("\n")) == (2, 1)
    assert "'mine.squared' can't be imported" in err
    assert not (folder / "results" / "other").exists()


def test_the_command_gives_a_criterion_its_arguments(explore, folder: Path) -> None:
    code = "def power(subject, n):\n    return {name: weight.abs() ** n for name, weight in subject.weights.items()}\n"
    (folder / "powers.py").write_text(code)
    keys = [*QUICK, "trials=2", "ladder=0", "criterion=custom", "criterion._target_=powers.power"]
    done, _, err = explore("run", *keys, "+criterion.n=2", "name=power")
    assert done == 0, err
    assert yaml.safe_load((folder / "results" / "power" / "config.yaml").read_text())["criterion"]["n"] == 2
    # another argument is another run
    done, _, err = explore("run", *keys, "+criterion.n=3", "name=power")
    assert (done, err.count("\n")) == (2, 1)
    assert "criterion.n: 2 there, 3 here" in err
    for added, message in (
        ("+criterion.bathces=2", "criterion: 'bathces' is unknown, did you mean 'batches'?"),
        ("criterion.batches=2", "criterion: missing a required argument: 'n' of power(subject, n)"),
    ):
        done, _, err = explore("run", *keys, added, "name=other")
        assert (done, err.count("\n")) == (2, 1)
        assert message in err
    assert not (folder / "results" / "other").exists()


def _raises(subject: Subject) -> None:
    raise KeyError("no such thing\nand more")


MISTAKES = [
    (_raises, "criterion: _raises raised KeyError"),
    (lambda subject: None, "criterion: <lambda> raised TypeError"),
    (lambda subject: [], "criterion: <lambda> gives nothing for 0.weight, needed is a tensor of scores [8, 4]"),
    (lambda subject: [1, 2], "gives nothing for 0.weight"),
    (lambda subject: {n: w[0] for n, w in subject.weights.items()}, "gives a tensor [4] for 0.weight"),
    (lambda subject: dict.fromkeys(subject.weights, 1.0), "gives float for 0.weight"),
    (lambda subject: dict(subject.weights), "scores 0.weight from -"),
    (lambda subject: {n: w * float("nan") for n, w in subject.weights.items()}, "scores 0.weight from nan"),
    ("tests.nowhere.function", "criterion: 'tests.nowhere.function' can't be imported"),
    (f"{__name__}.X", f"criterion: '{__name__}.X' is a Tensor, allowed is a class or function"),
    ({"name": cubed, "batch": 3}, "criterion: 'batch' is unknown, did you mean 'batches'?"),
    ({"name": raised, "powr": 3}, "criterion: 'powr' is unknown, did you mean 'power'?"),
    ({"name": raised, "batchs": 3}, "criterion: 'batchs' is unknown, did you mean 'batches'?"),
    (raised, "criterion: missing a required argument: 'power' of raised(subject"),
    ({"name": "l3"}, "criterion: 'l3' is unknown"),
]


@pytest.mark.parametrize(("criterion", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_mistakes_are_one_line(criterion: Any, message: str) -> None:
    with pytest.raises(PruningError) as caught:
        explorer.explore(net(), [(X, Y)], [(X, Y)], criterion=criterion, trials=1, ladder=0)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
