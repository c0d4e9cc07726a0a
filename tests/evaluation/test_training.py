"""Training, BN re-estimation, evaluation, and the cache of dense networks."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from explorer import data, models
from explorer.data.task import Task
from explorer.evaluation import training
from explorer.evaluation.settings import Settings
from explorer.models.trained import trained_network
from spaces.errors import PruningError

TASK = Task()
SETTINGS, SLOW = Settings(), Settings(learning_rate=0.01)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    # on a busy machine two threads wait for each other ten times as long as one needs for these sizes
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _batches(n: int = 3, size: int = 8) -> list[data.Batch]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(size, 3, 6, 6, generator=generator) * (i + 1), torch.arange(size) % 4) for i in range(n)]


def _net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.Dropout(0.5), nn.Flatten(), nn.Linear(80, 4))


def _digits_training(epochs: int, seed: int) -> tuple[nn.Module, data.Data, list[training.Epoch]]:
    digits = data.load_digits()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = models.build("resnet_digits")
    batches = data.Batches(
        digits.train,
        64,
        mean=digits.mean,
        std=digits.std,
        generator=torch.Generator().manual_seed(seed),
        crop=digits.crop,
        flip=digits.flip,
    )
    return model, digits, training.train(model, batches, task=TASK, epochs=epochs, settings=SETTINGS)


def test_an_epoch_may_end_after_so_many_steps():
    model = _net()
    (epoch,) = training.train(model, _batches(4), task=TASK, epochs=1, settings=Settings(steps=3))
    assert epoch.images == sum(len(y) for _, y in list(_batches(4))[:3])


def test_resnet_digits_learns_digits() -> None:
    model, digits, history = _digits_training(15, 0)
    result = TASK.evaluate(model, data.Batches(digits.test, 200, mean=digits.mean, std=digits.std))
    assert result.error < 0.03
    assert result.n == 400
    assert [epoch.number for epoch in history] == list(range(1, 16))
    assert history[-1].loss < 0.1 < history[0].loss
    assert history[0].learning_rate > 0.09 > 0.001 > history[-1].learning_rate


def test_training_is_a_function_of_its_seed() -> None:
    states = [_digits_training(1, seed)[0].state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert not torch.equal(states[0]["conv1.weight"], states[2]["conv1.weight"])


def test_global_random_state_is_left_alone() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))
    before = torch.get_rng_state()
    batches = data.Batches(
        data.load_digits().train, 500, mean=[0], std=[1], generator=torch.Generator().manual_seed(0), crop=4, flip=True
    )
    training.train(model, batches, task=TASK, epochs=1, settings=SETTINGS)
    training.reestimate_bn(model, data.draw(batches, 1))
    assert torch.equal(before, torch.get_rng_state())


def test_hook_sees_every_epoch_and_zero_epochs_train_nothing() -> None:
    seen: list[training.Epoch] = []
    model = _net()
    before = model[0].weight.clone()
    assert training.train(model, _batches(), task=TASK, epochs=0, settings=SETTINGS) == []
    assert torch.equal(model[0].weight, before)
    assert training.train(model, _batches(), task=TASK, epochs=2, settings=SLOW, on_epoch=seen.append) == seen
    assert len(seen) == 2
    assert not model.training


def test_cosine_without_a_length_starts_in_the_second_epoch() -> None:
    class Stream:
        def __iter__(self):
            return iter(_batches(4))

    rates = [epoch.learning_rate for epoch in training.train(_net(), Stream(), task=TASK, epochs=2, settings=SLOW)]
    assert rates[0] == 0.01
    assert rates[1] == pytest.approx(0.01 * 0.5 * (1 + math.cos(math.pi * (1 + 3 / 4) / 2)))


def test_frozen_parameters_stay() -> None:
    model = _net()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    training.train(model, _batches(), task=TASK, epochs=1, settings=SETTINGS)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([(torch.full((8, 3, 6, 6), math.nan), torch.zeros(8, dtype=torch.int64))], "the loss became nan in epoch 1"),
        ([], "the batches are empty"),
    ],
)
def test_training_that_fails_says_why(batches: list[data.Batch], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        training.train(_net(), batches, task=TASK, epochs=2, settings=SETTINGS)


class _OnlyEval(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            raise RuntimeError("only in eval mode\nand more")
        return super().forward(x)


class _Detached(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).detach()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Linear(2, 2).requires_grad_(False), "every parameter of the model is frozen"),
        (_OnlyEval(2, 2), r"training: RuntimeError in epoch 1 \(only in eval mode\)$"),
        (_Detached(2, 2), r"training: RuntimeError in epoch 1 \(element 0 of tensors does not require grad"),
        (nn.Linear(2, 1), r"training: IndexError in epoch 1 \(Target 1 is out of bounds"),
    ],
)
def test_a_model_that_cannot_be_trained_is_one_line(model: nn.Module, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        training.train(model, [(torch.zeros(3, 2), torch.tensor([0, 1, 1]))], task=TASK, epochs=1, settings=SETTINGS)


# BN re-estimation


def test_statistics_are_the_equal_weight_average() -> None:
    model, batches = _net().train(), _batches()
    model[2].eval()
    conv = [model[0](x).detach() for x, _ in batches]
    training.reestimate_bn(model, batches)
    mean = torch.stack([out.mean((0, 2, 3)) for out in conv]).mean(0)
    variance = torch.stack([out.var((0, 2, 3)) for out in conv]).mean(0)
    torch.testing.assert_close(model[1].running_mean, mean)
    torch.testing.assert_close(model[1].running_var, variance)
    assert model[1].momentum == 0.1
    assert [module.training for module in model] == [True, True, False, True, True]


def test_an_input_left_over_has_no_weight() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    x = torch.randn(9, 3)
    training.reestimate_bn(model, [(x[:8], torch.zeros(8)), (x[8:], torch.zeros(1))])
    out = model[0](x[:8]).detach()
    torch.testing.assert_close(model[1].running_mean, out.mean(0))
    torch.testing.assert_close(model[1].running_var, out.var(0))
    # images have a variance each, and may come one by one
    single = _net()
    training.reestimate_bn(single, [(x[:1], y[:1]) for x, y in _batches()])
    assert bool(single[1].running_var.isfinite().all())


def test_reestimation_is_repeatable_and_leaves_the_rest() -> None:
    model, batches = _net(), _batches()
    weights = [p.clone() for p in model.parameters()]
    training.reestimate_bn(model, batches)
    first = model[1].running_var.clone()
    training.reestimate_bn(model, batches)
    assert torch.equal(model[1].running_var, first)
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(weights, model.parameters(), strict=True))


def test_modes_come_back_when_a_batch_fails() -> None:
    model = _net().train()
    with pytest.raises(RuntimeError):
        training.reestimate_bn(model, [(torch.zeros(2, 9, 6, 6), torch.zeros(2))])
    assert model[1].momentum == 0.1
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(108, 4)),
        nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(108, 4)),
    ],
)
def test_no_running_statistics_cost_no_forward_pass(model: nn.Module) -> None:
    model.register_forward_pre_hook(lambda *_: pytest.fail("ran"))
    training.reestimate_bn(model, _batches())


def test_no_batches_to_estimate_from() -> None:
    with pytest.raises(PruningError, match="BN re-estimation: no batches"):
        training.reestimate_bn(_net(), [])


# evaluation


def test_evaluation_by_hand() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 1])
    whole = TASK.evaluate(nn.Identity(), [(logits, labels)])
    assert (whole.error, whole.n) == (0.5, 4)
    assert whole.error_se == pytest.approx(0.25)
    assert whole.loss == pytest.approx(nn.functional.cross_entropy(logits, labels).item())
    parts = TASK.evaluate(nn.Identity(), [(logits[:3], labels[:3]), (logits[3:], labels[3:])])
    assert parts.error == whole.error
    assert parts.loss == pytest.approx(whole.loss)


def test_evaluation_restores_modes_and_changes_nothing() -> None:
    model = _net().train()
    model[1].eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    first = TASK.evaluate(model, _batches())
    assert first == TASK.evaluate(model, _batches())
    assert [module.training for module in model] == [True, False, True, True, True]
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("batches", "message"),
    [([], "empty"), ([(torch.tensor([[math.nan, 0.0]]), torch.tensor([0]))], "the mean loss is nan")],
)
def test_evaluation_that_means_nothing_is_an_error(batches: list[data.Batch], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        TASK.evaluate(nn.Identity(), batches)


# the cache of dense networks


class _Trainer:
    """Stands for training: adds one to every weight, and counts."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model: nn.Module) -> None:
        self.calls += 1
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 1


def _get(path: Path, trainer: _Trainer, **key: object) -> tuple[nn.Module, bool]:
    return trained_network(_net, key={"model": "net", "seed": 0} | key, cache_dir=path / "a" / "b", train=trainer)


def test_second_call_loads(tmp_path: Path) -> None:
    trainer = _Trainer()
    first, cached = _get(tmp_path, trainer)
    second, cached_again = _get(tmp_path, trainer)
    assert (cached, cached_again, trainer.calls) == (False, True, 1)
    assert not first.training
    assert not second.training
    assert all(
        torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )
    _, other = _get(tmp_path, trainer, seed=1)
    assert (other, trainer.calls) == (False, 2)
    assert not list(tmp_path.rglob("*.tmp"))
    (record,) = [r for r in tmp_path.rglob("*.json") if json.loads(r.read_text())["key"]["seed"] == 0]
    assert record.with_suffix(".safetensors").exists()


def _flip_a_weight(weights: Path, record: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-3] ^= 255
    weights.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda weights, record: weights.write_bytes(weights.read_bytes()[:100]),
        lambda weights, record: weights.unlink(),
        lambda weights, record: record.write_text("{"),
        _flip_a_weight,
    ],
)
def test_a_damaged_cache_is_trained_again(tmp_path: Path, damage, caplog: pytest.LogCaptureFixture) -> None:
    trainer = _Trainer()
    expected = _get(tmp_path, trainer)[0].state_dict()
    (weights,), (record,) = tmp_path.rglob("*.safetensors"), tmp_path.rglob("*.json")
    damage(weights, record)
    again, cached = _get(tmp_path, trainer)
    assert (cached, trainer.calls) == (False, 2)
    assert "trained again" in caplog.text
    assert all(torch.equal(value, expected[key]) for key, value in again.state_dict().items())
    assert _get(tmp_path, trainer)[1]


def test_a_training_that_fails_leaves_no_network(tmp_path: Path) -> None:
    def fail(_: nn.Module) -> None:
        raise PruningError("training: the loss became nan")

    with pytest.raises(PruningError, match="nan"):
        trained_network(_net, key={}, cache_dir=tmp_path, train=fail)
    assert {file.suffix for file in tmp_path.iterdir()} <= {".lock"}


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file where the folder should be")
    with pytest.raises(PruningError, match="can't be written"):
        _get(tmp_path, _Trainer())
