"""What no example reaches, what of an output is used, and operators without a formula."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

from explorer.data.predictions import prediction
from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from spaces import PruningError, Recipe, costs_of
from tests.support.identities import assert_sliced_is_masked, fresh
from tests.support.small_models import IMG, Fn, conv, image, tokens

LARGE = image(size=16)


def _branching() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = F.relu(m.stem(x))
        if x.size(-1) > 8:
            h = F.relu(m.down(h))
        return m.head(F.relu(m.wide(F.relu(m.body(h)))).mean((2, 3)))

    torch.manual_seed(0)
    return Fn(
        forward, stem=conv(3, 8), down=conv(8, 8, stride=2), body=conv(8, 8), wide=conv(8, 12), head=nn.Linear(12, 4)
    ).eval()


def test_what_a_branch_could_read_is_fixed() -> None:
    model = _branching()
    network = trace(model, IMG)
    assert [unit.name for unit in network.units] == ["wide"]
    reasons = {entry.name: entry.reason for entry in network.fixed}
    assert reasons["down"] == "was not reached by the example input"
    assert "could be read by down" in reasons["stem"]
    small = Surgeon(model, network).build({"wide": torch.arange(3)})
    assert small(LARGE).shape == small(IMG).shape == (2, 4)


def test_a_further_example_reaches_it() -> None:
    model = _branching()
    network = trace(model, IMG, more=[LARGE])
    assert [(unit.name, unit.writers) for unit in network.units] == [
        ("stem", ("stem", "down")),
        ("body", ("body",)),
        ("wide", ("wide",)),
    ]
    assert network.layer["down"].positions == 0
    kept = {"stem": torch.tensor([1, 4]), "body": torch.tensor([0, 2, 3]), "wide": torch.arange(3)}
    for example in (IMG, LARGE):
        assert_sliced_is_masked(fresh(model), network, example, kept)


def _several(m: Any, x: Tensor) -> dict[str, Any]:
    y = m.a(x)
    return {"logits": m.b(y), "features": [y], "none": None}


@pytest.mark.parametrize(
    ("outputs", "units"),
    [(None, []), ("logits", ["a"]), (["logits"], ["a"]), (["features", "logits"], []), (prediction, ["a"])],
)
def test_outputs(outputs: Any, units: list[str]) -> None:
    network = trace(Fn(_several, a=nn.Linear(6, 8), b=nn.Linear(8, 2)), tokens(6), outputs=outputs)
    assert [unit.name for unit in network.units] == units


def test_what_a_function_makes_of_outputs_is_followed() -> None:
    """A choice of the model's classes says nothing of their number; without following it they could be pruned."""
    for used in (
        lambda out: out["logits"].softmax(-1),
        lambda out: out["logits"].argmax(-1),
        lambda out: out["logits"][:, 0],
    ):
        model = Fn(_several, a=nn.Linear(6, 8), b=nn.Linear(8, 2))
        network = trace(model, tokens(6), outputs=used)
        assert [unit.name for unit in network.units] == ["a"]
        assert [unit.name for unit in trace(model, tokens(6), outputs=used, verify=False).units] == ["a"]


def test_outputs_by_position_and_attribute() -> None:
    both = Fn(lambda m, x: (m.a(x), m.b(m.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 2))
    assert [unit.name for unit in trace(both, tokens(6), outputs=1).units] == ["a"]
    named = Fn(lambda m, x: SimpleNamespace(h=m.a(x), y=m.b(m.a(x))), a=nn.Linear(6, 8), b=nn.Linear(8, 2))
    assert [unit.name for unit in trace(named, tokens(6), outputs="y").units] == ["a"]


@pytest.mark.parametrize("outputs", ["logit", 3, ["none"], lambda output: output["none"]])
def test_outputs_that_name_nothing_are_one_line(outputs: Any) -> None:
    model = Fn(_several, a=nn.Linear(6, 8), b=nn.Linear(8, 2))
    with pytest.raises(PruningError, match=re.escape("allowed: logits, features")) as caught:
        trace(model, tokens(6), outputs=outputs)
    assert str(caught.value).startswith("outputs: ")
    assert "\n" not in str(caught.value)


class _Spectral(nn.Module):
    """Weights of Fourier coefficients."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(channels, 4, 3, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(x)[..., :4, :3] * self.weight, s=x.shape[-2:])


def test_complex_parameters() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.lift(x)
        mixed = torch.einsum("bchw,cd->bdhw", torch.fft.fft2(m.fourier(x)), m.mix)
        return m.head(torch.fft.ifft2(mixed).real + m.skip(x))

    model = Fn(
        forward,
        lift=conv(3, 8),
        fourier=_Spectral(8),
        skip=conv(8, 8, 1),
        head=nn.Sequential(conv(8, 10, 1), conv(10, 1, 1)),
    )
    model.mix = nn.Parameter(torch.randn(8, 8, dtype=torch.cfloat))
    assert [unit.name for unit in trace(model, IMG).units] == ["head.0"]


def test_what_may_multiply_is_named(caplog: pytest.LogCaptureFixture) -> None:
    model = Fn(lambda m, x: m.b(torch.cdist(x, m.a.weight)), a=nn.Linear(6, 8, bias=False), b=nn.Linear(8, 2))
    trace(model, tokens(6))
    assert "_cdist_forward" in caplog.text
    caplog.clear()
    trace(_branching(), IMG)
    assert not caplog.records


@pytest.mark.parametrize(
    ("forward", "flops"),
    [
        (lambda m, x: (m.a.weight @ x[0, 0])[None], 48),
        (lambda m, x: F.bilinear(x[:, 0], x[:, 1], m.w), 2 * 4 * 6 * 6),
    ],
)
def test_products_that_torch_does_not_count(forward: Any, flops: int) -> None:
    model = Fn(forward, a=nn.Linear(6, 8))
    model.w = nn.Parameter(torch.randn(4, 6, 6))
    network = trace(model, tokens(6))
    assert costs_of(network, Recipe())["flops"] == flops // 2


def _masked(layer: nn.Module) -> nn.Module:
    return prune.l1_unstructured(layer, "weight", 0.5)


@pytest.mark.parametrize("wrap", [torch.nn.utils.weight_norm, _masked])
def test_weights_that_hooks_compute(wrap: Any) -> None:
    with torch.no_grad():
        model = nn.Sequential(wrap(conv(3, 8)), nn.ReLU(), wrap(conv(8, 6)), nn.ReLU(), conv(6, 2)).eval()
    network = trace(model, IMG)
    assert [unit.name for unit in network.units] == ["0", "2"]
    assert [layer.name for layer in network.layers] == ["0", "2", "4"]
    kept = {"0": torch.tensor([0, 3, 5]), "2": torch.tensor([1, 2])}
    assert_sliced_is_masked(model.double(), network, IMG.double(), kept)
    small = Surgeon(model, network).build(kept)
    assert small(IMG.double()).shape == (2, 2, 8, 8)
    assert {key.rpartition(".")[2]: value.size(0) for key, value in small.state_dict().items() if key[0] == "0"} == {
        name.rpartition(".")[2]: 3 for name in model.state_dict() if name[0] == "0"
    }
