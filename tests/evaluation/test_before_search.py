"""What can be known to be wrong before the first evaluation is said then, in one line that names the data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import explorer
from explorer.data.task import Task, classification
from spaces import PruningError

FINETUNE = {"name": "finetune", "rungs": [0, 1]}


class Head(nn.Module):
    """Returns something else in training mode than a loss takes."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten()), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Any:
        out = self.last(self.body(x))
        return {"loss": out.sum()} if self.training else out


def plain(*norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 8), *norm, nn.Linear(8, 4))


def frozen() -> nn.Module:
    return plain().requires_grad_(False)


def images(count: int = 16, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 6, 6, generator=generator).to(dtype), torch.arange(count) % 4


@dataclass
class Case:
    message: str
    model: Callable[[], nn.Module] = plain
    train: Any = field(default_factory=lambda: [images()])
    validation: Any = field(default_factory=lambda: [images()])
    evaluator: Any = "inherit"
    task: Task | None = field(default_factory=lambda: classification(4))


CASES = {
    "frozen": Case(
        "^train: the dense network can't be trained \\(every parameter of the model is frozen; .*requires_grad_",
        frozen,
        evaluator=FINETUNE,
    ),
    "training mode": Case("^train: the dense network can't be trained \\(", Head, evaluator=FINETUNE),
    "batches of one": Case(
        "^train: the dense network can't be trained .*more than 1 value per channel",
        lambda: plain(nn.BatchNorm1d(8)),
        train=[images(1), images(1)],
        evaluator=FINETUNE,
    ),
    "doubles in train": Case("^train: model: forward raised .* torch.float64", train=[images(dtype=torch.float64)]),
    "doubles in validation": Case(
        "^validation: model: forward raised .* torch.float64", validation=[images(dtype=torch.float64)]
    ),
    "one class": Case(
        "^validation: all 16 labels are 2, needed are two classes at least",
        validation=[(images()[0], torch.full((16,), 2))],
        task=None,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_said_before_the_first_evaluation(case: Case) -> None:
    seen: list[Any] = []
    with pytest.raises(PruningError, match=case.message) as caught:
        explorer.explore(
            case.model(),
            case.train,
            case.validation,
            trials=4,
            evaluator=case.evaluator,
            task=case.task,
            on_record=seen.append,
        )
    assert "\n" not in str(caught.value)
    assert not seen


def test_a_last_batch_of_one_is_left_out_where_there_is_batch_norm() -> None:
    x, y = images(17)
    loader = DataLoader(TensorDataset(x, y), 8)
    study = explorer.explore(
        plain(nn.BatchNorm1d(8)), loader, [(x, y)], trials=4, ladder=3, evaluator={"name": "finetune", "rungs": [1]}
    )
    assert study.trials["state"].eq("COMPLETE").all()
    assert study.trials["epochs"].eq(1).all()


def test_the_check_changes_neither_the_model_nor_the_random_state() -> None:
    model = plain(nn.BatchNorm1d(8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    explorer.explore(model, [images()], [images()], trials=1, ladder=0, evaluator=FINETUNE, sampler="random")
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(1) == labels).float()


def wrongs(logits: Tensor, labels: Tensor) -> Tensor:
    return 1 - accuracy(logits, labels)


def trained() -> nn.Module:
    torch.manual_seed(0)
    model, (x, y) = plain(), images()
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        adam.zero_grad()
        F.cross_entropy(model(x), y).backward()
        adam.step()
    return model.eval()


def test_a_metric_whose_direction_contradicts_the_loss_is_asked_about() -> None:
    model, data = trained(), [images()]

    def dense(metric: Any, **options: Any) -> float:
        task = Task(metric=metric, name="accuracy", **options)
        return explorer.explore(model, data, data, trials=1, ladder=0, task=task).problem.dense["error"]

    with pytest.raises(
        PruningError, match=r"^task: accuracy is 1 .* is a high accuracy good\? .*higher_is_better=True"
    ):
        dense(accuracy)
    assert dense(accuracy, higher_is_better=True) == 0
    assert dense(accuracy, higher_is_better=False) == 1
    assert dense(wrongs) == 0
