"""Fingerprints: equal in every process for equal parts, and different where anything differs."""

from __future__ import annotations

import functools
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from explorer.utils.fingerprints import fingerprint

PARTS = [
    {"a": 1, "b": [2.0, "x"]},
    {"a": 1, "b": [2.0, "y"]},
    {"a": 1, "b": [[2.0], "x"]},
    [1, [2, 3]],
    [[1, 2], 3],
    "12",
    ["1", "2"],
    torch.zeros(2, 3),
    torch.zeros(3, 2),
    torch.zeros(2, 3, dtype=torch.float64),
    torch.ones(2, 3),
    torch.zeros(2, 3, dtype=torch.bfloat16),
    np.arange(10_000),
    np.append(np.arange(9_999), 0),
    b"12",
    None,
]


@dataclass
class Named:
    value: object
    other: int = 0


def test_what_differs_has_another_fingerprint() -> None:
    found = [fingerprint(part) for part in [*PARTS, *(Named(part) for part in PARTS)]]
    assert len(set(found)) == len(found)
    assert all(fingerprint(part) == again for part, again in zip(PARTS, found, strict=False))


def test_order_layout_and_process_do_not_matter() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    tensor = torch.arange(24.0).view(2, 3, 2, 2)
    assert fingerprint(tensor) == fingerprint(tensor.contiguous(memory_format=torch.channels_last))
    code = "from explorer.utils.fingerprints import fingerprint; print(fingerprint({'a': 1}, object()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == fingerprint({"a": 1}, object())


class Net(nn.Module):
    """A module whose forward another class may have otherwise."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.layer, self.factor = nn.Linear(2, 2), factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * self.layer(x)


def net(factor: float = 1.0) -> Net:
    torch.manual_seed(0)
    return Net(factor)


def test_modules_differ_by_tensors_attributes_and_code_and_not_by_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(net())
    assert before == fingerprint(net().eval())
    other = net()
    with torch.no_grad():
        other.layer.bias[0] += 1e-6
    buffered = net()
    buffered.register_buffer("extra", torch.zeros(1), persistent=False)
    found = {before, fingerprint(net(2.0)), fingerprint(other), fingerprint(buffered)}
    # as if the file was edited between two runs
    monkeypatch.setattr(Net, "forward", lambda self, x: self.layer(x) - 1)
    assert len(found | {fingerprint(net())}) == 5


SCALE = 2.0


def scaled(x: float) -> float:
    return SCALE * x


def test_a_function_enters_with_what_it_names_in_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(x: float) -> float:
        return scaled(x) + 1

    before = fingerprint(calls)
    assert before == fingerprint(calls)
    monkeypatch.setattr(sys.modules[__name__], "SCALE", 3.0)
    assert before != fingerprint(calls)


def test_attributes_of_objects_enter() -> None:
    assert fingerprint(nn.CrossEntropyLoss(torch.ones(3))) != fingerprint(nn.CrossEntropyLoss(torch.zeros(3)))
    nested = [functools.partial(scaled, x) for x in (1, 1, 2)]
    assert fingerprint(nested[0]) == fingerprint(nested[1]) != fingerprint(nested[2])


@pytest.mark.parametrize("change", [lambda: lambda x: x + 2, lambda: lambda x, y=1: x + 1])
def test_a_function_that_does_something_else_has_another_fingerprint(change) -> None:
    def made(held: int):
        return lambda x: x + held

    assert fingerprint(lambda x: x + 1) != fingerprint(change())
    assert fingerprint(made(1)) == fingerprint(made(1)) != fingerprint(made(2))
