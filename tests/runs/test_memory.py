"""What a run of a large model says of memory before it begins."""

from __future__ import annotations

import torch
from torch import nn

from explorer.runs.memory import memory_needed


def test_large_models_say_what_memory_a_run_takes() -> None:
    assert memory_needed(nn.Linear(8, 8)) is None
    with torch.device("meta"):
        large = nn.Linear(1 << 15, 1 << 14, bias=False)
    said = memory_needed(large)
    assert said is not None
    # two networks, scores of four bytes a weight, and a sub-network: 2 GiB each
    assert said.startswith("0.54 billion parameters, 2.0 GiB: the run takes up to 8 GiB of memory")
    # two networks of 1 GiB, and scores of 2 GiB twice
    half = memory_needed(large.to(torch.bfloat16))
    assert half is not None
    assert "0.54 billion parameters, 1.0 GiB: the run takes up to 6 GiB" in half
