"""Tasks: any loss, any metric, any structure of batches, from the evaluation to a whole study."""

from __future__ import annotations

import math
import re
import sys

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
import yaml
from hypothesis import given
from torch import nn

import explorer
from explorer.data.predictions import prediction, squared_error, wrong
from explorer.data.task import Task, classification, regression
from explorer.search.metrics import error_metric
from spaces import PruningError

LABELS = torch.tensor([0, 0, 0, 1])
LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 0.0]])


class Mean:
    """A metric with a state, as torchmetrics has them: of the inputs' first prediction, which should be high."""

    higher_is_better = True

    def __init__(self) -> None:
        self.total, self.count = 100.0, 1

    def reset(self) -> None:
        self.total, self.count = 0.0, 0

    def update(self, predictions: torch.Tensor, targets: torch.Tensor) -> None:
        self.total, self.count = self.total + float(predictions[:, 0].sum()), self.count + len(predictions)

    def compute(self) -> float:
        return self.total / self.count


# metrics


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_an_evaluation_does_not_depend_on_how_inputs_are_batched(sizes: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(sum(sizes), 3, generator=generator), torch.randint(3, (sum(sizes),), generator=generator)
    batches = list(zip(x.split(sizes), y.split(sizes), strict=True))
    whole, parts = (classification(3).evaluate(nn.Identity(), part) for part in ([(x, y)], batches))
    assert (whole.error, whole.error_se, whole.n) == (parts.error, parts.error_se, parts.n)
    assert parts.loss == pytest.approx(whole.loss)
    assert whole.error == float((x.argmax(1) != y).double().mean())
    assert whole.error_se == pytest.approx(math.sqrt(whole.error * (1 - whole.error) / sum(sizes)))


def test_a_metric_of_batches_counts_inputs_and_has_a_standard_error_of_batches() -> None:
    task = Task(metric=lambda logits, labels: wrong(logits, labels).mean())
    whole = task.evaluate(nn.Identity(), [(LOGITS, LABELS)])
    assert whole.error == 0.5
    assert math.isnan(whole.error_se)
    parts = task.evaluate(nn.Identity(), [(LOGITS[:3], LABELS[:3]), (LOGITS[3:], LABELS[3:])])
    assert parts.error == pytest.approx(0.5)
    # weights 3/4 and 1/4, values 1/3 and 1
    assert parts.error_se == pytest.approx(math.sqrt(2 * (0.75**2 * (1 / 6) ** 2 + 0.25**2 * 0.5**2)))


def test_a_metric_with_a_state_is_reset_and_turned_where_high_is_good() -> None:
    metric = Mean()
    task = Task(metric=metric, name="mean", trivial=1.0, trivial_loss=1.0)
    for _ in range(2):
        result = task.evaluate(nn.Identity(), [(LOGITS[:1], LABELS[:1]), (LOGITS[1:], LABELS[1:])])
        assert result.error == pytest.approx(1 - 5 / 4)
    assert (metric.total, task.label, error_metric(task.label, task.scale).label) == (
        100.0,
        "1 - mean",
        "validation 1 - mean",
    )
    assert Task(metric=metric, higher_is_better=False).evaluate(nn.Identity(), [(LOGITS, LABELS)]).error == 5 / 4


def test_metrics_of_torchmetrics() -> None:
    torchmetrics = pytest.importorskip("torchmetrics", exc_type=(ImportError, RuntimeError))
    accuracy = torchmetrics.classification.MulticlassAccuracy(2, average="micro")
    assert Task(metric=accuracy).evaluate(nn.Identity(), [(LOGITS, LABELS)]).error == pytest.approx(0.5)
    task = Task(F.mse_loss, torchmetrics.MeanSquaredError(), "mse")
    x, y = torch.randn(7, 2), torch.randn(7, 2)
    assert task.evaluate(nn.Identity(), [(x, y)]).error == pytest.approx(float((x - y).square().mean()))


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ({"logits": LOGITS, "loss": LABELS}, LOGITS),
        (type("Output", (), {"logits": LOGITS})(), LOGITS),
        ((LOGITS, LABELS), LOGITS),
        (LOGITS, LOGITS),
    ],
)
def test_what_a_loss_takes_of_an_output(output: object, expected: torch.Tensor) -> None:
    assert prediction(output) is expected


# the trivial predictor


def test_trivial_values_are_those_of_constant_predictions() -> None:
    identity = nn.Identity()
    assert classification(4).referred(identity, [], []).reference == {"error": 0.75, "loss": math.log(4)}
    y = torch.randn(9, 2)
    known = regression().referred(identity, [(y[:6], y[:6])], [(y[6:7], y[6:7]), (y[7:], y[7:])])
    assert known.trivial == pytest.approx(float((y[6:] - y[:6].mean(0)).square().mean()))
    assert known.trivial_loss == pytest.approx(known.trivial)
    # class 0 is the most frequent one of calibration, class 2 is in none
    x, seen = torch.zeros(2, 3), [(torch.zeros(3, 3), torch.tensor([0, 0, 1]))]
    known = Task(metric=wrong).referred(identity, seen, [(x, torch.tensor([0, 2]))])
    assert known.trivial == 0.5
    assert known.trivial_loss == pytest.approx(-(math.log(3 / 6) + math.log(1 / 6)) / 2)


# mistakes


def _halves(x: torch.Tensor) -> torch.Tensor:
    return x.mul_(0.5)


def _raises(*_: object) -> None:
    raise RuntimeError("no such thing\nand more")


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        (Task(), _raises, "model: forward raised RuntimeError on a torch.float32 tensor of shape [2, 2] (no such"),
        (Task(), _halves, "model: forward changes its inputs in place"),
        (Task(loss=_raises), None, "task: loss raised RuntimeError on a torch.float32 tensor of shape [2, 2], a torch"),
        (Task(loss=lambda x, y: x), None, "task: loss returns a torch.float32 tensor of shape [2, 2], needed is one"),
        (Task(metric=_raises), None, "task: metric raised RuntimeError"),
        (Task(metric=lambda x, y: x), None, "task: metric raised ValueError"),
        (Task(metric=lambda x, y: x.new_zeros(3)), None, "(it returns [3], needed is one value for each input or for"),
        (Task(metric=lambda x, y: x.new_zeros(1)), None, "(it returns [1], needed is one value for each input or for"),
        (Task(metric=Mean), None, "task: metric raised TypeError on type"),
        (Task(prediction=_raises), None, "task: prediction raised RuntimeError"),
        (classification(3), None, "needed are logits of shape [2, 3 classes]"),
        (regression(), None, "task: loss raised"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_in_one_line(task: Task, model: object, message: str) -> None:
    module = nn.Identity()
    if model is not None:
        module.forward = model  # type: ignore[method-assign, assignment]
    with pytest.raises(PruningError, match=re.escape(message)) as caught:
        task.check(module, (LOGITS, LABELS))
    assert "\n" not in str(caught.value)
    assert LOGITS[0, 0] == 2


def test_inputs_that_are_not_numbers_stay_as_they_are() -> None:
    x = torch.tensor([[math.nan, 1.0], [0.0, 1.0]])
    Task(prediction=torch.nan_to_num).check(nn.Identity(), (x, LABELS[:2]))
    assert torch.isnan(x[0, 0])


class Each(Mean):
    """A metric that says something of every class."""

    def compute(self) -> torch.Tensor:  # type: ignore[override]
        return torch.zeros(3)


class Unsure(Mean):
    """A metric that fails."""

    def compute(self) -> float:
        raise RuntimeError("no such thing\nand more")


class Second(nn.Module):
    """A model that refuses any batch but those of four inputs."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if len(x) == 4 else _raises()


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        (Task(metric=Each()), nn.Identity(), "task: metric raised ValueError on Each (compute returns [3], needed is"),
        (Task(metric=Unsure()), nn.Identity(), "task: metric raised RuntimeError on Unsure (no such thing)"),
        (
            Task(),
            Second(),
            "model: forward raised RuntimeError on a torch.float32 tensor of shape [3, 2] (no such thing)",
        ),
        (
            Task(metric=lambda x, y: x.new_zeros(4)),
            nn.Identity(),
            "[3, 2], a torch.int64 tensor of shape [3] (it returns",
        ),
    ],
)
def test_what_fails_in_an_evaluation_is_one_line(task: Task, model: nn.Module, message: str) -> None:
    with pytest.raises(PruningError, match=re.escape(message)) as caught:
        task.evaluate(model, [(LOGITS, LABELS), (LOGITS[:3], LABELS[:3])])
    assert "\n" not in str(caught.value)


def test_shapes_that_would_broadcast_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("predictions are [3, 1], targets [3]")):
        squared_error(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(PruningError, match=r"task\.trivial: not given, with trivial_loss"):
        Task(F.l1_loss, squared_error).referred(nn.Identity(), [], [(torch.zeros(2, 1), torch.zeros(2))])


# whole studies


class _Curve(nn.Module):
    """A small network of two inputs by name, for two values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 16), nn.Linear(3, 16)
        self.hidden, self.out = nn.Linear(16, 12), nn.Linear(12, 2)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return self.out(F.gelu(self.hidden(F.gelu(self.first(a) + self.second(b)))))


@pytest.mark.parametrize("structure", ["mapping", "tuple"])
def test_a_regression_is_explored_exported_and_loaded(structure: str, tmp_path) -> None:
    torch.manual_seed(0)
    model, a, b = _Curve(), torch.randn(240, 3), torch.randn(240, 3)
    targets = torch.stack([(a * b).sum(1), a.sum(1)], 1)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(400):
        optimizer.zero_grad()
        F.mse_loss(model(a, b), targets).backward()
        optimizer.step()
    parts = [slice(i, i + 60) for i in range(0, 240, 60)]
    if structure == "mapping":
        batches = [{"a": a[part], "b": b[part], "labels": targets[part]} for part in parts]
    else:
        batches = [(a[part], b[part], targets[part]) for part in parts]
    study = explorer.explore(model, batches[:2], batches[2:], task=regression(), trials=12, ladder=4)
    front = study.frontier
    trivial = float((targets[120:] - targets[:120].mean(0)).square().mean())
    assert study.problem.scale.reference == [pytest.approx(trivial), 1.0]
    assert study.problem.dense["error"] < 0.3 * trivial
    assert study.problem.dense["error"] < front["error"].min() < trivial
    assert (front["error_se"] > 0).all()
    assert study.plot().axes[0].get_ylabel() == "validation mean squared error"
    best = study.best(flops=0.9)
    best.save(tmp_path)
    args, kwargs = ((), {"a": a, "b": b}) if structure == "mapping" else ((a, b), {})
    expected = best.build()(a, b).detach()
    torch.testing.assert_close(explorer.load(tmp_path, trust=True)(*args, **kwargs), expected)
    loaded = explorer.load(tmp_path, model=_Curve())
    torch.testing.assert_close(loaded(a, b), expected)
    assert best.metrics["error"] == pytest.approx(float((expected[120:] - targets[120:]).square().mean()))
    # what a user reads of a study: the latency is measured of keyword arguments too
    assert study.problem.timings(best.recipe)["latency_ms"] > 0


def test_targets_that_are_no_classes_need_a_task() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    batches = [(torch.randn(4, 3), torch.randn(4, 1))]
    with pytest.raises(PruningError, match="task: not given, and the targets are no labels of classes"):
        explorer.explore(model, batches, batches, trials=1)


@pytest.mark.parametrize(
    ("label", "task", "message"),
    [
        (-1, None, "validation: a label is -1, allowed are classes counted from 0"),
        (0, "regression", "task: a str, allowed is an explorer.Task"),
    ],
)
def test_what_is_no_task_is_one_line(label: int, task: object, message: str) -> None:
    batches = [(torch.randn(4, 3), torch.full((4,), label))]
    with pytest.raises(PruningError, match=message):
        explorer.explore(nn.Linear(3, 4), batches, batches, task=task)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": 3}, "model: a int, allowed is a torch module"),
        ({"train": None}, "train: a NoneType; give a DataLoader"),
        ({"space": 3}, "space: a int, allowed is a name, a mapping"),
    ],
)
def test_arguments_of_another_kind_are_one_line(given: dict[str, object], message: str) -> None:
    batches = [(torch.randn(4, 3), torch.arange(4))]
    arguments = {"model": nn.Linear(3, 4), "train": batches, "validation": batches} | given
    with pytest.raises(PruningError, match=message):
        explorer.explore(**arguments)  # type: ignore[arg-type]


def test_volumes_are_left_in_their_memory_layout() -> None:
    model = nn.Sequential(nn.Unflatten(1, (1, 4)), nn.Conv3d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv3d(6, 2, 1))
    model = nn.Sequential(model, nn.AdaptiveAvgPool3d(1), nn.Flatten())
    batches = [(torch.randn(6, 4, 5, 5), torch.arange(6) % 2)]
    study = explorer.explore(model, batches, batches, trials=3, ladder=2)
    assert np.isfinite(study.trials["error"]).all()


# the command line

TABULAR = """
import torch
import torch.nn.functional as F
import yaml
from torch import nn

from explorer.data import Data, Split, fingerprint
from explorer.data.task import Task


def split(n, seed):
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return Split(x, torch.stack([x[:, 0] * x[:, 1], x[:, 2].sin()], 1))


def data():
    train, validation, test = split(256, 0), split(64, 1), split(64, 2)
    return Data("tabular", train, validation, test, None, (), (), fingerprint(train, validation, test))


def model():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 2))


def absolute(weight=1.0):
    return Task(F.l1_loss, lambda x, y: weight * (x - y).abs().mean(1), "mean absolute error", "m")
"""


def test_values_are_predicted_from_the_command_line(explore, folder) -> None:
    (folder / "tabular.py").write_text(TABULAR)
    quick = ["data=custom", "data._target_=tabular.data", "model=custom", "model._target_=tabular.model", "trials=3"]
    quick += ["ladder=2", "training.epochs=4", "training.learning_rate=0.02", "space=mixed"]
    quick += ["baselines=[erk]", "baseline_targets.flops=[0.6]", "baseline_family=channels"]
    absolute = ["task=custom", "task._target_=tabular.absolute"]
    code, out, err = explore("run", *quick, "task=regression", "objectives=[loss,params]", "name=squares")
    assert code == 0, err
    assert "dense test mean squared error" in out
    config = yaml.safe_load((folder / "results" / "squares" / "config.yaml").read_text())
    assert 0 < config["facts"]["hypervolume_reference"]["loss"] < 1
    # each loss trains a dense network of its own, which other metrics share
    logs = {}
    for name, more in (("absolute", []), ("weighted", ["+task.weight=2.0"])):
        code, out, err = explore("run", *quick, *absolute, *more, f"name={name}")
        assert code == 0, err
        assert "dense test mean absolute error (m)" in out
        logs[name] = (folder / "results" / name / "run.log").read_text()
    assert "dense network: trained for 4 epochs" in logs["absolute"]
    assert "dense network: from the cache" in logs["weighted"]
    tables = [pd.read_csv(folder / "results" / name / "baselines.csv") for name in ("absolute", "weighted")]
    np.testing.assert_allclose(2 * tables[0]["error"], tables[1]["error"], rtol=1e-6)
    recipe = "results/weighted/recipes/baseline-erk-channels-flops-0.6.yaml"
    code, _, err = explore("export", "results/weighted", "--recipe", recipe, "--out", "predictor", "--allow", "tabular")
    assert code == 0, err
    (row,) = tables[1].to_dict("records")
    validation = sys.modules["tabular"].split(64, 1)
    error = (
        2
        * (explorer.load(folder / "predictor", allow=["tabular"])(validation.inputs) - validation.targets).abs().mean()
    )
    assert row["error"] == pytest.approx(float(error.detach()))


def test_values_without_a_task_are_one_line(explore, folder) -> None:
    (folder / "tabular.py").write_text(TABULAR)
    keys = ["data=custom", "data._target_=tabular.data", "model=custom", "model._target_=tabular.model", "name=values"]
    code, _, err = explore("run", *keys)
    assert (code, err.count("\n")) == (2, 1)
    assert "task: classification, and the data has no classes, allowed are language, regression and custom" in err
    assert not (folder / "results" / "values").exists()
