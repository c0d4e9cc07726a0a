"""Fingerprints: equal in every process for equal parts, and different where anything differs."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from explorer.utils.fingerprints import definition, fingerprint

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


@pytest.mark.parametrize("change", [lambda: lambda x: x + 2, lambda: lambda x, y=1: x + 1])
def test_a_function_that_does_something_else_has_another_definition(change) -> None:
    def made(held: int):
        return lambda x: x + held

    assert definition(lambda x: x + 1) != definition(change())
    assert definition(made(1)) == definition(made(1)) != definition(made(2))
