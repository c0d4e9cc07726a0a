"""Modules that do not run in eval mode, taken out of the model: what they read can then be pruned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from explorer.models import drop_unused
from explorer.models.factory import build_model
from explorer.tracing import trace
from spaces import PruningError
from tests.support.small_models import Fn


class WithHead(nn.Module):
    """An auxiliary head reads the first layer in training, as in GoogLeNet."""

    def __init__(self, num_classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 36, num_classes))
        self.second = nn.Conv2d(8, 6, 3)
        self.last = nn.Linear(6, num_classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        x = self.first(x)
        aside = self.head(x) if self.training and self.head is not None else None
        return self.last(self.second(x).mean((2, 3))), aside


EXAMPLE = torch.randn(1, 3, 8, 8)


def test_what_a_head_reads_is_free_without_it() -> None:
    model = WithHead().train()
    before, dense = trace(model, EXAMPLE), model.eval()(EXAMPLE)[0]
    assert [unit.name for unit in before.units] == ["second"]
    assert "head.1" in [entry.name for entry in before.fixed]
    assert drop_unused(model.train(), EXAMPLE) == ["head"]
    assert all(module.training for module in model.modules())
    after = trace(model, EXAMPLE)
    assert [unit.name for unit in after.units] == ["first", "second"]
    assert "head.1" not in [entry.name for entry in after.fixed]
    assert torch.equal(model.eval()(EXAMPLE)[0], dense)
    model.train()(EXAMPLE)[0].sum().backward()
    assert drop_unused(model, EXAMPLE) == []


def test_what_lends_its_weight_stays() -> None:
    def forward(m: Fn, x: Tensor) -> Tensor:
        return nn.functional.linear(m.attention(x, x, x)[0], m.lent.weight)

    model = Fn(
        forward,
        attention=nn.MultiheadAttention(8, 2),
        lent=nn.Linear(8, 3, bias=False),
        unused=nn.Linear(2, 2),
        empty=nn.ReLU(),
    )
    assert drop_unused(model, torch.randn(4, 1, 8)) == ["unused"]


def test_a_model_is_built_without_it() -> None:
    arguments = {"num_classes": 4, "drop_unused": [3, 8, 8]}
    model = build_model("tests.models.test_unused.WithHead", arguments)
    assert model.head is None
    assert model.last.out_features == 4
    assert not any(name.startswith("head") for name in model.state_dict())
    with pytest.raises(PruningError, match=r"^model\.drop_unused: forward raised RuntimeError"):
        build_model("tests.models.test_unused.WithHead", {"drop_unused": [1, 8, 8]})


def test_a_run_without_it(explore) -> None:
    overrides = ["model=custom", "model._target_=tests.models.test_unused.Digits", "data=digits", "space=filter"]
    code, out, _ = explore("inspect", *overrides)
    assert code == 0
    assert "did not run in eval mode" in " ".join(out.split())
    code, out, _ = explore("inspect", *overrides, "model.drop_unused=true")
    assert code == 0
    assert "did not run" not in " ".join(out.split())
    code, _, err = explore("inspect", *overrides, "model.drop_unused=2")
    assert code == 2
    assert "model.drop_unused: 2, allowed is true or false" in err


class Digits(WithHead):
    """The same for the digits, with one output."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3)
        self.last = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]
