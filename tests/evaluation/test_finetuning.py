"""Evaluations that train: continued bit for bit, masks held, failures in one line."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, TensorDataset

import explorer
from explorer import data, models
from explorer.data import Batch
from explorer.data.task import Task, classification, regression
from explorer.evaluation import finetuning
from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.evaluation.settings import Settings
from explorer.evaluation.training import distance, epoch_of
from explorer.pruning.criteria import Scores, score
from explorer.pruning.patterns import gemm_of
from explorer.runs.composing import compose
from explorer.runs.config import RunConfig
from explorer.search.jobs import Job, OutOfTimeError
from explorer.tracing import trace
from explorer.utils.space_section import named_space
from spaces import Network, Pattern, PruningError, PruningSpace, Recipe

CLOCKS = ("images_per_second",)


class Network10(nn.Sequential):
    """Everything that has a state or draws: batch norm, dropout, a parameter of its own."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 10),
        )  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> data.Data:
    return data.load_digits()


@pytest.fixture(scope="module")
def evaluator(digits: data.Data) -> Inherited:
    torch.manual_seed(0)
    model = Network10()
    network = trace(model, torch.zeros(1, 1, 8, 8))
    batches = list(data.Batches(digits.validation, 100, mean=digits.mean, std=digits.std))
    calibration = list(data.Batches(digits.train.subset(range(200)), 100, mean=digits.mean, std=digits.std))
    return Inherited.of(model, network, score(model, network), calibration, batches, classification(10))


@pytest.fixture(scope="module")
def batches(digits: data.Data) -> data.Batches:
    part = digits.train.subset(range(128))
    return data.Batches(part, 32, mean=digits.mean, std=digits.std, generator=torch.Generator(), crop=1, flip=False)


def mixed(network: Network) -> Recipe:
    """Return a recipe that slices and masks."""
    return Recipe.of({"0": 0.5}, {"3": Pattern("element", 0.3)}).canonical(network)


SETTINGS = [
    Settings(learning_rate=0.05, label_smoothing=0.1),
    Settings("adamw", 0.01, ema=0.9, distillation=0.5),
    Settings(learning_rate=0.05, distillation=1.0, ema=0.5, precision="bfloat16"),
]


def tuned(evaluator: Inherited, batches: Any, settings: Settings = SETTINGS[0], **options: Any) -> Finetuned:
    return Finetuned(evaluator, batches, settings, **{"rungs": (0, 1, 3), **options})


def facts(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in CLOCKS}


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("start", ["inherit", "scratch"])
def test_interrupted_and_promoted_candidates_end_as_others(evaluator, batches, settings, start, tmp_path) -> None:
    rungs = (1, 2, 4)
    recipe = mixed(evaluator.meter.network)
    straight = tuned(evaluator, batches, settings, start=start, rungs=rungs)
    expected = [facts(straight(Job(0, recipe, rung))) for rung in range(3)]
    for stop in (1, 2, 3):
        folder = tmp_path / str(stop)

        def interrupt(epoch: Any, stop: int = stop) -> None:
            if epoch.number == stop:
                raise KeyboardInterrupt

        stopped = replace(straight, folder=folder, on_epoch=interrupt)
        with pytest.raises(KeyboardInterrupt):
            stopped(Job(0, recipe, 2))
        seen: list[int] = []
        again = replace(stopped, on_epoch=lambda epoch, seen=seen: seen.append(epoch.number))
        assert facts(again(Job(0, recipe, 2))) == expected[2]
        assert seen == list(range(stop + 1, 5))
        assert equal(again.build(recipe), straight.build(recipe))
    climbing = replace(straight, folder=tmp_path / "climbing")
    assert [facts(climbing(Job(0, recipe, rung))) for rung in range(3)] == expected
    # what is asked for below the state's rung is trained again
    assert facts(replace(climbing, folder=tmp_path / "climbing")(Job(0, recipe, 0))) == expected[0]


def test_a_training_whose_time_is_over_stops_between_epochs_and_goes_on_later(evaluator, batches, tmp_path) -> None:
    recipe, seen = mixed(evaluator.meter.network), list[int]()
    straight = tuned(evaluator, batches)
    stopped = replace(straight, folder=tmp_path, on_epoch=lambda epoch: seen.append(epoch.number))
    for epochs in ([1], [1, 2]):
        with pytest.raises(OutOfTimeError):
            stopped(Job(0, recipe, 2, deadline=0.0))
        assert seen == epochs
    # after the last epoch there is nothing to stop
    assert facts(stopped(Job(0, recipe, 2, deadline=0.0))) == facts(straight(Job(0, recipe, 2)))
    assert seen == [1, 2, 3]


def test_rung_zero_is_inheritance(evaluator, batches, tmp_path) -> None:
    recipe = mixed(evaluator.meter.network)
    found = tuned(evaluator, batches, folder=tmp_path)(Job(0, recipe))
    assert found == evaluator(Job(0, recipe)) | {"epochs": 0}
    assert not list(tmp_path.iterdir())


def test_randomness_is_of_seed_and_recipe_and_none_leaks(evaluator, batches) -> None:
    recipe, before = mixed(evaluator.meter.network), torch.get_rng_state()
    dense = {name: value.clone() for name, value in evaluator.meter.model.state_dict().items()}
    first, again, other = (facts(tuned(evaluator, batches, seed=seed)(Job(0, recipe, 1))) for seed in (0, 0, 1))
    assert first == again
    assert first["train_loss"] != other["train_loss"]
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, dense[name]) for name, value in evaluator.meter.model.state_dict().items())


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("start", ["inherit", "scratch"])
def test_what_a_pattern_removed_stays_zero(evaluator, batches, settings, start, tmp_path) -> None:
    recipe, network = mixed(evaluator.meter.network), evaluator.meter.network
    trained = tuned(evaluator, batches, settings, start=start, rungs=(2,), folder=tmp_path)
    metrics = trained(Job(0, recipe))
    assert metrics["flops_realised"] > 0
    # trained, and from the file
    for module, masks in (replace(trained, folder=None).masked(recipe), trained.masked(recipe)):
        (_, mask), layer = masks["3"], network.layer["3"]
        weight = gemm_of(network, layer, module.get_parameter(layer.weight).detach())
        assert not weight[~mask.keep].any()
        assert bool(weight[mask.keep].all())
        assert not module.training


def test_fresh_weights_owe_the_dense_ones_nothing_but_the_masks(evaluator, batches) -> None:
    recipe = mixed(evaluator.meter.network)
    model = Network10()
    scores = Scores(evaluator.pruner.scores.weights, evaluator.pruner.scores.channels)
    meter = evaluator.meter
    foreign = Inherited.of(model, meter.network, scores, evaluator.calibration, meter.validation, meter.task)
    built = [tuned(e, batches, start="scratch", rungs=(1,)).build(recipe) for e in (evaluator, foreign)]
    assert equal(*built)
    inherited = [tuned(e, batches, rungs=(1,)).build(recipe) for e in (evaluator, foreign)]
    assert not equal(*inherited)


class _Scaled(nn.Module):
    """A module that doesn't say how its parameter is initialised."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.arange(1.0, 9.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


def test_parameters_of_unknown_origin_are_shuffled(digits) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), _Scaled(), nn.Linear(8, 10))
    network = trace(model, torch.zeros(1, 1, 8, 8))
    batches = list(data.Batches(digits.validation, 397, mean=digits.mean, std=digits.std))
    evaluator = Inherited.of(model, network, score(model, network), batches, batches, classification(10))
    settings = Settings(learning_rate=1e-9, weight_decay=0.0)
    module = tuned(evaluator, batches, settings, start="scratch", rungs=(1,)).build(Recipe.of({}))
    drawn = module[2].scale.detach().round()
    assert sorted(drawn.tolist()) == list(range(1, 9)) != drawn.tolist()


class _Endless(IterableDataset):
    """Draws its order from the global generator and has no length."""

    def __init__(self, *tensors: torch.Tensor) -> None:
        self.tensors = tensors

    def __iter__(self) -> Any:
        order = torch.randperm(len(self.tensors[0]))
        return zip(*(tensor[order] for tensor in self.tensors), strict=True)


LOADERS = {
    "global": lambda whole: DataLoader(whole, 32, shuffle=True),
    "generator": lambda whole: DataLoader(whole, 32, shuffle=True, generator=torch.Generator()),
    "sampler": lambda whole: DataLoader(whole, 32, sampler=RandomSampler(whole, generator=torch.Generator())),
    "batch sampler": lambda whole: DataLoader(
        whole, batch_sampler=BatchSampler(RandomSampler(whole, generator=torch.Generator()), 32, drop_last=False)
    ),
    "no length": lambda whole: DataLoader(_Endless(*whole.tensors), 32),
}


@pytest.mark.parametrize("kind", LOADERS)
def test_a_user_s_loader_is_shuffled_by_the_seed(evaluator, digits, kind, tmp_path) -> None:
    loader = LOADERS[kind](TensorDataset(digits.train.inputs[:96], digits.train.targets[:96]))
    recipe = mixed(evaluator.meter.network)
    straight = tuned(evaluator, loader)
    expected = [facts(straight(Job(0, recipe, rung))) for rung in (1, 2)]
    climbing = replace(straight, folder=tmp_path)
    assert [facts(climbing(Job(0, recipe, rung))) for rung in (1, 2)] == expected
    assert facts(replace(straight, seed=1)(Job(0, recipe, 2))) != expected[1]


def test_a_user_s_batches_may_be_mappings(digits) -> None:
    x, y = digits.train.inputs[:96], digits.train.targets[:96]
    dictionaries = [{"input": x, "labels": y}]
    (batch,) = epoch_of(dictionaries, 0)
    assert set(batch[0]) == {"input"}


def test_evaluations_travel_to_other_processes(evaluator, batches, tmp_path) -> None:
    recipe = mixed(evaluator.meter.network)
    here = tuned(evaluator, batches, SETTINGS[1], folder=tmp_path / "a")
    there = pickle.loads(pickle.dumps(replace(here, folder=tmp_path / "b")))
    assert facts(here(Job(0, recipe, 2))) == facts(there(Job(0, recipe, 2)))


# files


def test_files_are_named_by_all_that_made_them(evaluator, batches, digits, tmp_path) -> None:
    """No weights are taken that were trained from, to or on something else."""
    recipe, meter = mixed(evaluator.meter.network), evaluator.meter

    def made(model=None, scores=None, calibration=None, task=None) -> Inherited:
        return Inherited.of(
            meter.model if model is None else model,
            meter.network,
            scores or evaluator.pruner.scores,
            calibration or evaluator.calibration,
            meter.validation,
            task or meter.task,
        )

    def name(inherited: Inherited = evaluator, loader: Any = batches, **options: Any) -> str:
        return tuned(inherited, loader, folder=tmp_path, **options).kept(recipe).name

    other = copy.deepcopy(meter.model)
    with torch.no_grad():
        next(other.parameters()).flatten()[0] += 1e-3
    doubled = replace(meter.task, prediction=lambda out: 2 * out)
    pairs = list(data.Batches(digits.train.subset(range(64)), 32, mean=digits.mean, std=digits.std))
    moved = [(x + 1e-3, y) for x, y in pairs]
    loaders = [DataLoader(TensorDataset(*map(torch.cat, zip(*part, strict=True))), 32) for part in (pairs, moved)]
    names = [
        name(),
        name(made(model=other)),
        name(made(scores=score(meter.model, meter.network, "random"))),
        name(made(calibration=evaluator.calibration[:1])),
        name(made(task=doubled)),
        name(loader=replace(batches, crop=batches.crop + 1)),
        name(loader=replace(batches, split=batches.split.subset(range(len(batches.split) - 1)))),
        *(name(loader=loader) for loader in (pairs, moved, *loaders)),
        name(seed=1),
        name(start="scratch", rungs=(1, 3)),
        name(rungs=(0, 3)),
        name(settings=Settings(learning_rate=0.011)),
    ]
    assert len(set(names)) == len(names)
    assert name(made()) == names[0]
    assert name(loader=[(x.clone(), y.clone()) for x, y in pairs]) == name(loader=pairs)


def test_a_folder_holds_the_weights_of_several_networks(tmp_path) -> None:
    """A second study of another dense network in the same folder is what it is without the folder."""
    torch.manual_seed(0)
    x, y = torch.randn(32, 3, 6, 6), torch.arange(32) % 2
    how: dict[str, Any] = {"evaluator": {"name": "finetune", "rungs": [1]}, "trials": 2, "sampler": "random"}

    def losses(seed: int, **more: Any) -> list[float]:
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 2))
        return explorer.explore(model, [(x, y)], [(x, y)], ladder=0, **how, **more).trials["loss"].tolist()

    expected = [losses(seed) for seed in (0, 1)]
    assert expected[0] != expected[1]
    for _ in range(2):
        assert [losses(seed, folder=tmp_path) for seed in (0, 1)] == expected


def test_weights_stay_states_go_and_tidy_keeps_what_is_asked_for(evaluator, batches, tmp_path, monkeypatch) -> None:
    recipes = [mixed(evaluator.meter.network), Recipe.of({"0": 0.5}), Recipe.of({"0": 0.25})]
    trained = tuned(evaluator, batches, folder=tmp_path)
    trained(Job(0, recipes[0], 2))
    trained(Job(1, recipes[1], 2))
    trained(Job(2, recipes[2], 1))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".safetensors", ".safetensors", ".state"]
    built = trained.build(recipes[0])
    trained.tidy([recipes[0], recipes[2]])
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]
    # the file is what is built: nothing is trained
    monkeypatch.setattr(finetuning, "Trainer", None)
    assert equal(trained.build(recipes[0]), built)
    replace(trained, folder=tmp_path / "nowhere").tidy([])


def test_what_killed_processes_left_of_files_goes(evaluator, batches, tmp_path) -> None:
    recipe = mixed(evaluator.meter.network)
    trained = tuned(evaluator, batches, folder=tmp_path)
    trained(Job(0, recipe, 1))
    (state,) = tmp_path.iterdir()
    for process in (7, 8):
        (tmp_path / f".{state.stem}.{process}.state").write_bytes(state.read_bytes()[:99])
    (tmp_path / ".another.7.state").touch()
    trained(Job(0, recipe, 2))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".another.7.state", f"{state.stem}.safetensors"]


@pytest.mark.parametrize("suffix", [".state", ".safetensors"])
def test_damaged_files_are_trained_again(evaluator, batches, tmp_path, suffix, caplog) -> None:
    recipe, rung = mixed(evaluator.meter.network), 1 if suffix == ".state" else 2
    trained = tuned(evaluator, batches, folder=tmp_path)
    expected = facts(trained(Job(0, recipe, rung)))
    (path,) = tmp_path.glob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:100])
    assert facts(trained(Job(0, recipe, rung))) == expected
    assert "not used" in caplog.text


# failures


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_loss_that_explodes_is_one_line_and_leaves_nothing(evaluator, batches, optimizer, tmp_path) -> None:
    trained = tuned(evaluator, batches, Settings(optimizer, 1e30), folder=tmp_path)
    with pytest.raises(PruningError, match=r"(training: the loss became|evaluation: the mean loss is) (nan|inf)"):
        trained(Job(0, mixed(evaluator.meter.network), 2))
    assert not list(tmp_path.iterdir())


class _OutOfMemory(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand much more")
        return x


def test_memory_that_runs_out_is_one_line(digits, batches) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), _OutOfMemory(), nn.Linear(8, 10))
    network = trace(model, torch.zeros(1, 1, 8, 8))
    inputs = list(data.Batches(digits.validation, 397, mean=digits.mean, std=digits.std))
    evaluator = Inherited.of(model, network, score(model, network), inputs, inputs, classification(10))
    with pytest.raises(PruningError, match=r"^out of memory: CUDA out of memory. Tried to allocate 2 GiB$"):
        tuned(evaluator, batches, rungs=(1,))(Job(0, Recipe.of({})))


@pytest.mark.parametrize(
    ("rungs", "start", "message"),
    [
        ([], "inherit", r"evaluator.rungs: \[\], allowed is an ascending list of whole numbers of epochs >= 0"),
        ([2, 1], "inherit", "ascending"),
        ([1, 1], "inherit", "ascending"),
        ([0.5], "inherit", "whole numbers"),
        ([True], "inherit", "whole numbers"),
        (10, "inherit", "evaluator.rungs: 10, allowed is an ascending list"),
        ("10", "inherit", "ascending list"),
        ([0, 2], "scratch", "whole numbers of epochs >= 1"),
        ([1], "fresh", "start"),
    ],
)
def test_rungs_that_make_no_sense(evaluator, batches, rungs, start, message) -> None:
    with pytest.raises(PruningError, match=message):
        tuned(evaluator, batches, rungs=rungs, start=start)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"optimizer": "adam"}, "finetuning.optimizer: 'adam' is unknown, did you mean 'adamw'"),
        ({"precision": "bf16"}, "finetuning.precision"),
        ({"optimizer": ["sgd"]}, "finetuning.optimizer: .*is unknown"),
        ({"learning_rate": 0}, "finetuning.learning_rate: 0, allowed is a number > 0"),
        ({"temperature": math.nan}, "finetuning.temperature: nan"),
        ({"weight_decay": -1}, "finetuning.weight_decay: -1"),
        ({"ema": 1}, r"finetuning.ema: 1, allowed is a number in \[0, 1\)"),
        ({"distillation": 1.5}, r"finetuning.distillation: 1.5, allowed is a number in \[0, 1\]"),
        ({"label_smoothing": "a"}, "finetuning.label_smoothing: 'a'"),
    ],
)
def test_settings_that_make_no_sense(section, message) -> None:
    with pytest.raises(PruningError, match=message):
        Settings.of(section)


def test_smoothing_is_for_classes() -> None:
    with pytest.raises(PruningError, match=r"finetuning.label_smoothing: 0.1, allowed is 0"):
        Settings(label_smoothing=0.1).check(regression())
    assert Settings.of({"optimizer": "adamw", "batch_size": 3, "ema": 0}) == Settings("adamw")


# what is minimised


def test_distances_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    soft = [torch.softmax(logits / 2, 1) for logits in (teacher, student)]
    expected = 4 * (soft[0] * (soft[0] / soft[1]).log()).sum(1).mean()
    torch.testing.assert_close(distance(Task(), student, teacher, temperature=2.0), expected)
    assert float(distance(Task(), teacher, teacher, temperature=4.0)) == pytest.approx(0, abs=1e-7)
    assert float(distance(regression(), student, teacher, temperature=2.0)) == pytest.approx(1.25)


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        (torch.zeros(3, 1), torch.zeros(3)),
        ({"loss": torch.zeros(())}, {"boxes": torch.zeros(2, 4), "scores": torch.zeros(2)}),
        ({"labels": torch.zeros(2, dtype=torch.long)}, {"labels": torch.zeros(2, dtype=torch.long)}),
    ],
)
def test_what_cannot_be_compared_is_no_number(student, teacher) -> None:
    # as of models that return something else in training
    with pytest.raises(ValueError, match=r"shapes|longer|shorter"):
        distance(regression(), student, teacher, temperature=1.0)


def test_a_regression_is_distilled_too(digits) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 1))
    x = digits.train.inputs[:64]
    pairs: list[Batch] = [(x, digits.train.targets[:64, None].float())]
    network = trace(model, x[:1])
    evaluator = Inherited.of(model, network, score(model, network), pairs, pairs, regression())
    settings = Settings("adamw", 0.01, distillation=1.0)
    before, after = (
        distance(regression(), module(x).detach(), model(x).detach(), temperature=1.0)
        for module in (evaluator.build(Recipe.of({"1": 0.5})), _long(evaluator, pairs, settings))
    )
    assert float(after) < float(before) / 2


def _long(evaluator: Inherited, pairs: list[Batch], settings: Settings) -> nn.Module:
    return tuned(evaluator, pairs, settings, rungs=(150,)).build(Recipe.of({"1": 0.5}))


def test_training_pays_on_a_trained_network(digits, folder: Path) -> None:
    torch.manual_seed(0)
    model = models.build("resnet_digits")
    augmented = data.Batches(
        digits.train, 64, mean=digits.mean, std=digits.std, generator=torch.Generator(), crop=1, flip=False
    )
    network = trace(model, torch.zeros(1, 1, 8, 8))
    space = PruningSpace.from_config(network, named_space("filter"))
    recipe = space.recipe(space.uniform(0.5))
    inputs = list(data.Batches(digits.validation, 100, mean=digits.mean, std=digits.std))
    evaluator = Inherited.of(model, network, score(model, network), inputs[:2], inputs, classification(10))
    trained = tuned(evaluator, augmented, Settings(learning_rate=0.05), rungs=(0, 3))
    errors = [trained(Job(0, recipe, rung))["error"] for rung in (0, 1)]
    assert errors[1] < 0.3 < errors[0]


@pytest.mark.parametrize("start", ["inherit", "scratch"])
def test_attention_and_dropped_blocks_train(digits, start) -> None:
    torch.manual_seed(0)
    model = models.build("vit_digits")
    network = trace(model, torch.zeros(1, 1, 8, 8))
    space = PruningSpace.from_config(network, named_space("mixed"))
    inputs = list(data.Batches(digits.validation, 200, mean=digits.mean, std=digits.std))
    evaluator = Inherited.of(model, network, score(model, network), inputs[:1], inputs, classification(10))
    pairs = list(data.Batches(digits.train.subset(range(320)), 32, mean=digits.mean, std=digits.std))
    trained = tuned(evaluator, pairs, Settings("adamw", 0.003), rungs=(40,), start=start)
    recipes = map(space.recipe, space.sample(200, np.random.default_rng(0), "axes"))
    recipe = next(recipe for recipe in recipes if recipe.channels and recipe.weights and recipe.blocks)
    metrics = trained(Job(0, recipe))
    assert metrics["train_loss"] < math.log(10) - 0.2
    assert metrics["error"] < 0.8


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["finetuning.optimizer=adam"], "finetuning.optimizer: 'adam' is unknown, did you mean 'adamw'"),
        (["finetuning.batch_size=1"], "finetuning.batch_size: 1, allowed is a whole number >= 2"),
        (["finetuning.learing_rate=1"], "did you mean 'finetuning.learning_rate'"),
        (["evaluator=finetun"], "evaluator: 'finetun' is unknown, did you mean 'finetune'"),
        (["evaluator=finetune", "evaluator.rungs=[2,0]"], r"evaluator.rungs: \[2, 0\], allowed is an ascending list"),
        (["evaluator=scratch", "evaluator.rungs=[0,4]"], r"evaluator.rungs: \[0, 4\].*>= 1"),
        (["evaluator=finetune", "evaluator.eta=1"], "evaluator.eta: 1, allowed is a number > 1"),
        (["supernet.epochs=-1"], "supernet.epochs: -1, allowed is a whole number >= 0"),
        (["supernet.learning_rate=0"], "supernet.learning_rate: 0, allowed is a number > 0"),
        (["final.point=3"], "did you mean 'final.points'"),
        (["final.seeds=0"], "final.seeds: 0, allowed is a whole number >= 1"),
    ],
)
def test_mistakes_in_the_configuration_are_one_line(overrides, message) -> None:
    with pytest.raises(PruningError, match=message) as caught:
        RunConfig.of(compose(overrides)[0])
    assert "\n" not in str(caught.value)
