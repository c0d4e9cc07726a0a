"""Sub-networks whose layers are solved: measured, trained on, built and exported as the evaluator says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import explorer
from explorer import data, models
from explorer.data.digits import load_digits
from explorer.data.task import classification
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.settings import RATES, EvaluatorSettings, Settings
from explorer.evaluation.supernet import supernet
from explorer.pruning.criteria import score
from explorer.pruning.reconstruction import Settings as Reconstruction
from explorer.runs.config import RunConfig
from explorer.search.jobs import Job
from explorer.tracing import trace
from explorer.utils.space_section import named_space
from spaces import Budget, PruningError, PruningSpace, Recipe

SOLVED = Reconstruction()


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return load_digits()


@pytest.fixture(scope="module")
def trained(digits: data.Data) -> nn.Module:
    """Return a network of few epochs."""
    torch.manual_seed(0)
    model = models.build("resnet_digits")
    steps = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    for _ in range(4):
        for x, y in batches(digits, "train", 64):
            steps.zero_grad()
            F.cross_entropy(model(x), y).backward()
            steps.step()
    return model.eval()


def batches(digits: data.Data, split: str, size: int = 125) -> list[Any]:
    return list(data.Batches(getattr(digits, split), size, mean=digits.mean, std=digits.std))


def made(digits: data.Data, model: nn.Module, **options: Any) -> Inherited:
    network = trace(model, torch.zeros(1, 1, 8, 8), name="digits")
    arguments = {"calibration": batches(digits, "train")[:4], "validation": batches(digits, "validation")} | options
    calibration, validation = arguments.pop("calibration"), arguments.pop("validation")
    task = classification(10)
    return Inherited.of(model, network, score(model, network), calibration, validation, task, **arguments)


def halved(evaluator: Inherited) -> Recipe:
    return Recipe.of({unit.name: 0.5 for unit in evaluator.pruner.network.units})


def test_errors_are_lower_than_of_inherited_weights(digits: data.Data, trained: nn.Module) -> None:
    inherited, solved = made(digits, trained), made(digits, trained, reconstruction=SOLVED)
    recipe = halved(inherited)
    before, after = (evaluator(Job(0, recipe))["error"] for evaluator in (inherited, solved))
    assert after < 0.7 * before
    assert solved.meter.measured(solved.build(recipe))["error"] == after
    assert solved(Job(1, recipe)) == solved(Job(2, recipe))
    # nothing is missing of the whole network
    assert solved(Job(0, Recipe.of()))["error"] == solved.meter.dense()["error"]


def test_validation_is_not_read(digits: data.Data, trained: nn.Module) -> None:
    poisoned = [(torch.full_like(x, float("nan")), y) for x, y in batches(digits, "validation")]
    one, other = (
        made(digits, trained, reconstruction=SOLVED, **options).build(halved(made(digits, trained)))
        for options in ({}, {"validation": poisoned})
    )
    for first, second in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(first, second)


def test_calibration_that_is_no_number_is_a_failed_trial(digits: data.Data, trained: nn.Module) -> None:
    poisoned = [(torch.full_like(x, float("nan")), y) for x, y in batches(digits, "train")[:1]]
    evaluator = made(digits, trained, reconstruction=SOLVED, calibration=poisoned)
    with pytest.raises(PruningError, match=r"^reconstruction: what .* reads or is to give is not finite$"):
        evaluator(Job(0, halved(evaluator)))


def test_training_begins_with_the_solution(digits: data.Data, trained: nn.Module) -> None:
    evaluator = made(digits, trained, reconstruction=SOLVED)
    pairs, recipe = batches(digits, "train", 64)[:8], halved(evaluator)
    options = {"settings": Settings(learning_rate=0.005), "rungs": (0, 1)}
    tuned = Finetuned(evaluator, pairs, start="reconstruct", **options)
    assert tuned(Job(0, recipe, 0))["error"] == evaluator(Job(0, recipe))["error"]
    inherited = replace(tuned, start="inherit")
    assert tuned(Job(0, recipe, 0))["error"] < inherited(Job(0, recipe, 0))["error"]
    assert tuned(Job(0, recipe, 1))["train_loss"] < inherited(Job(0, recipe, 1))["train_loss"]
    assert tuned._kept_as(recipe) != inherited._kept_as(recipe)
    with pytest.raises(PruningError, match=r"^start: 'reconstruct', and the sub-networks are not reconstructed$"):
        Finetuned(made(digits, trained), pairs, start="reconstruct", **options)


def test_shared_weights_are_reconstructed_too(digits: data.Data, trained: nn.Module) -> None:
    evaluator = made(digits, trained)
    space = PruningSpace.from_config(evaluator.pruner.network, named_space("filter"))
    scores, task = evaluator.pruner.scores, classification(10)
    shared = supernet(
        trained, space, batches(digits, "train", 64), task=task, scores=scores, epochs=1,
        settings=Settings(learning_rate=0.01), limits=Budget(), samples=1,
    )  # fmt: skip
    solved = made(digits, trained, reconstruction=SOLVED, shared=shared)
    # what is left of the shared network is solved for its own outputs
    module = solved.build(Recipe.of())
    for name, value in module.state_dict().items():
        assert torch.equal(value, solved.pruner.model.state_dict()[name])


@pytest.mark.parametrize("space", ["filter", "mixed"])
def test_a_study_gives_reconstructed_modules(digits: data.Data, trained: nn.Module, space: str, tmp_path: Any) -> None:
    train, validation = batches(digits, "train"), batches(digits, "validation")
    study = explorer.explore(
        trained, train, validation, space=space, evaluator="reconstruct", trials=3, sampler="random", ladder=2,
        baselines=["uniform"], baseline_family="channels", baseline_targets={"flops": [0.5]},
    )  # fmt: skip
    candidate = study.best(flops=0.9)
    module = candidate.build()
    assert study.problem.meter.measured(module)["error"] == candidate.metrics["error"]
    assert study.baselines["error"].notna().all()
    candidate.save(tmp_path / "small")
    loaded = explorer.load(tmp_path / "small", model=models.build("resnet_digits"))
    x = validation[0][0]
    torch.testing.assert_close(loaded.eval()(x), module(x), rtol=1e-4, atol=1e-4)


def test_errors_depend_on_train_and_weights_alone(digits: data.Data, trained: nn.Module) -> None:
    """The seed draws places by the inputs' own values: the order of batches changes nothing but rounding."""
    recipe = halved(made(digits, trained))
    calibration = batches(digits, "train")[:4]
    first, second = (
        made(digits, trained, reconstruction=SOLVED, calibration=part).build(recipe)
        for part in (calibration, calibration[::-1])
    )
    x = batches(digits, "validation")[0][0]
    difference = (first(x) - second(x)).abs().max()
    assert float(difference.detach()) < 1e-2 * float(first(x).detach().abs().max())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["evaluator=reconstruct", "evaluator.positions=0"], "evaluator.positions: 0, allowed is a whole number >= 1"),
        (["evaluator=reconstruct", "evaluator.ridge=-1"], "evaluator.ridge: -1, allowed is a number >= 0"),
        (["evaluator=reconstruct", "evaluator.position=3"], "did you mean 'evaluator.positions'"),
        (
            ["evaluator=inherit", "finetuning.start=reconstruct"],
            "finetuning.start: 'reconstruct', allowed with evaluator=inherit is inherit",
        ),
        (
            ["evaluator=finetune", "finetuning.start=scratch"],
            "finetuning.start: 'scratch', allowed with evaluator=finetune is inherit or reconstruct",
        ),
        (
            ["evaluator=scratch", "finetuning.start=reconstruct"],
            "finetuning.start: 'reconstruct', allowed with evaluator=scratch is scratch",
        ),
    ],
)
def test_a_mistake_is_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(PruningError, match=message) as caught:
        RunConfig.composed(overrides)
    assert "\n" not in str(caught.value)


def test_what_trainings_begin_with() -> None:
    starts = {
        name: EvaluatorSettings.of(RunConfig.composed([f"evaluator={name}"]).given["evaluator"]).start()
        for name in ("inherit", "reconstruct", "finetune", "scratch")
    }
    assert starts == {
        "inherit": "inherit", "reconstruct": "reconstruct", "finetune": "inherit", "scratch": "scratch",
    }  # fmt: skip
    config = RunConfig.composed(["evaluator=finetune", "finetuning.start=reconstruct", "evaluator.positions=4"])
    assert config.evaluator.reconstruction(config.start) == Reconstruction(positions=4)
    assert RunConfig.composed(["evaluator=finetune"]).evaluator.reconstruction("inherit") is None
    assert np.isclose(config.evaluator.ridge, 0.01)


@pytest.mark.parametrize(
    ("given", "rate"),
    [
        (["evaluator=finetune"], RATES["inherit"]),
        (["evaluator=finetune", "finetuning.start=reconstruct"], RATES["reconstruct"]),
        (["evaluator=reconstruct"], RATES["reconstruct"]),
        (["evaluator=reconstruct", "finetuning.learning_rate=0.02"], 0.02),
    ],
)
def test_the_learning_rate_is_that_of_the_start_where_none_is_given(given: list[str], rate: float) -> None:
    assert RunConfig.composed(given).finetuning.learning_rate == rate
