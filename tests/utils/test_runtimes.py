"""Runtimes: a module made ready in each of them, and which of them there are."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from explorer.data.task import classification
from explorer.evaluation import meter as metering
from explorer.evaluation.budgets import LatencyLimit
from explorer.evaluation.meter import Meter
from explorer.tracing import trace
from explorer.utils import runtime_names
from explorer.utils.programs import OnnxModule, difference, program_of, write_onnx
from explorer.utils.runtime_names import RUNTIMES, check_runtime, missing
from explorer.utils.runtimes import ready
from spaces import PruningError

pytestmark = pytest.mark.skipif(missing(runtime_names.ONNX) is not None, reason="no ONNX Runtime")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval()


@pytest.mark.parametrize("runtime", [name for name in RUNTIMES if name != "compile"])
def test_a_module_runs_on_other_inputs_than_it_was_made_ready_with(runtime: str) -> None:
    if missing(RUNTIMES[runtime][1]) is not None:
        pytest.skip(f"no {runtime}")
    made = ready(runtime, net(), torch.randn(1, 6))
    for count in (1, 5):
        made(torch.randn(count, 6))()


def test_unknown_runtimes_and_missing_packages_are_one_line(monkeypatch) -> None:
    for wrong in ("onnx", None, 3):
        with pytest.raises(PruningError, match=r"latency\.runtime: .* is unknown"):
            check_runtime("latency.runtime", wrong)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(PruningError, match=r'not installed: pip install "pruning-spaces\[onnx\]"'):
        check_runtime("latency.runtime", "onnxruntime")
    check_runtime("latency.runtime", "torch")


def test_the_dense_network_is_made_ready_once_and_both_run_in_turns(monkeypatch) -> None:
    made: list[nn.Module] = []

    def counted(runtime: str, module: nn.Module, example: object):
        made.append(module)
        return ready(runtime, module, example)

    monkeypatch.setattr(metering, "ready", counted)
    model, batch = net(), (torch.randn(8, 6), torch.arange(8) % 3)
    network = trace(model, batch[0][:1])
    meter = Meter(model, network, [batch], classification(3), LatencyLimit(), runtime="onnxruntime")
    assert meter.dense()["latency_ratio"] == 1
    small, other = net(), net()
    found = meter.timings(small, {}), meter.timings(other, {}, batch=False)
    assert made == [meter.model, small, other]
    assert {"latency_ms", "latency_dense_ms", "latency_ratio", "latency_batch_ms"} <= set(found[0])
    assert "latency_batch_ms" not in found[1]
    # a session is no part of what workers are sent
    assert meter.__getstate__()["_ready"] is None


class Pair(nn.Module):
    """Inputs by name, in another order than they are given in, and outputs that are a mapping."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        return {"sum": self.layer(first + second), "difference": self.layer(first - second)}


def test_inputs_go_by_name_and_outputs_keep_their_structure(tmp_path) -> None:
    model, inputs = Pair().eval(), {"second": torch.randn(1, 4), "first": torch.randn(1, 4)}
    program = program_of(model, inputs)
    write_onnx(program, tmp_path / "model.onnx")
    found = OnnxModule(tmp_path / "model.onnx", program)
    several = {name: torch.randn(5, 4) for name in inputs}
    assert program.batches
    assert set(found(**several)) == {"sum", "difference"}
    assert difference(found(**several), model(**several)) < 1e-5
    # who wrote which line where is nobody's business
    text = (tmp_path / "model.onnx").read_bytes()
    assert b"stack_trace" not in text
    assert __file__.encode() not in text


class Fixed(nn.Module):
    """A model whose code makes a number of the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.layer = nn.Parameter(torch.randn(1, 1, 4)), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.cat([self.token.expand(len(x), -1, -1), x], 1).mean(1))


def test_a_program_of_one_input_takes_batches_one_by_one(tmp_path) -> None:
    model = Fixed().eval()
    program = program_of(model, torch.randn(1, 3, 4))
    assert not program.batches
    write_onnx(program, tmp_path / "model.onnx")
    x = torch.randn(4, 3, 4)
    assert difference(OnnxModule(tmp_path / "model.onnx", program)(x), model(x)) < 1e-5
    ready("onnxruntime", model, x)(x)()


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_an_operator_that_onnx_has_not_is_named(tmp_path, capfd) -> None:
    program = program_of(Bessel().eval(), torch.randn(1, 4))
    with pytest.raises(PruningError, match=r"onnx: it has no operator for torch's prims\.bessel_j0") as caught:
        write_onnx(program, tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("found", "expected", "far"),
    [
        (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]), 0.0),
        (torch.tensor([1.0, 2.5]), torch.tensor([1.0, 2.0]), 0.25),
        (torch.tensor([float("nan")]), torch.tensor([1.0]), float("inf")),
        (torch.zeros(0), torch.zeros(0), 0.0),
        ([torch.zeros(2), torch.ones(1)], [torch.zeros(2), torch.full((1,), 2.0)], 0.5),
    ],
)
def test_differences_are_relative_to_the_greatest(found, expected, far: float) -> None:
    assert difference(found, expected) == far
