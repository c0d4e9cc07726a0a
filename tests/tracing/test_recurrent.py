"""Recurrent layers: their hidden channels, gates, layers and directions leave together, and their FLOPs count."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explorer.data.task import classification
from explorer.pruning.criteria import score
from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from explorer.tracing.verification.masking import masked
from spaces import costs_of, dense_costs
from tests.support.identities import random_kept, random_recipe

EMBEDDED, HIDDEN, STEPS = 6, 8, 5
GATES = {nn.RNN: 1, nn.GRU: 3, nn.LSTM: 4}


class Reader(nn.Module):
    """Tokens, a recurrent layer, and a classifier of the mean state."""

    def __init__(self, kind: type[nn.RNNBase], **options: object) -> None:
        super().__init__()
        self.words = nn.Embedding(20, EMBEDDED)
        self.read = kind(EMBEDDED, HIDDEN, **options)  # type: ignore[arg-type]
        width = (self.read.proj_size or HIDDEN) * (1 + self.read.bidirectional)
        self.hidden, self.out = nn.Linear(width, 10), nn.Linear(10, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        first = self.read.batch_first
        x = self.words(tokens if first else tokens.t())
        return self.out(torch.relu(self.hidden(self.read(x)[0].mean(1 if first else 0))))


OPTIONS = [
    {"num_layers": layers, "bidirectional": both, "batch_first": first}
    for layers, both, first in itertools.product((1, 3), (False, True), (False, True))
]
CASES = [(kind, options) for kind in GATES for options in OPTIONS]
CASES += [(nn.GRU, {"num_layers": 1, "bias": False, "batch_first": True})]


def _flops(model: Reader, tokens: int) -> int:
    """Return the multiply-adds by the layers' own sizes: every step a product with the input and one with the state."""
    read = model.read
    state, ways = read.hidden_size, 1 + read.bidirectional
    inputs = [read.input_size, *[state * ways] * (read.num_layers - 1)]
    gates = GATES[type(read)] * read.hidden_size
    each = [gates * (width + state) for width in inputs]
    return tokens * ways * sum(each) + model.hidden.weight.numel() + model.out.weight.numel()


@pytest.mark.parametrize(("kind", "options"), CASES, ids=str)
def test_recurrent_layers_are_sliced_as_masked(kind: type[nn.RNNBase], options: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = Reader(kind, **options).double().eval()
    tokens = torch.randint(20, (2, STEPS))
    network = trace(model, tokens[:1])
    assert [unit.name for unit in network.units] == ["words", "read.weight_ih_l0", "hidden"]
    assert [entry.reason for entry in network.fixed] == ["tied to the model's output"]
    assert dense_costs(network)["flops"] == _flops(model, STEPS)
    state = network.unit["read.weight_ih_l0"]
    assert (state.channels // state.step, state.step % GATES[kind]) == (HIDDEN, 0)
    surgeon, rng = Surgeon(model, network), np.random.default_rng(0)
    for _ in range(3):
        recipe = random_recipe(network, rng)
        kept = random_kept(network, recipe, rng)
        small = surgeon.build(kept)
        longer = torch.randint(20, (3, STEPS + 2))
        torch.testing.assert_close(small(longer), masked(model, network, kept)(longer), rtol=1e-9, atol=1e-9)
        assert _flops(small, STEPS) == costs_of(network, recipe)["flops"]
        assert sum(p.numel() for p in small.parameters()) == costs_of(network, recipe)["params"]
        small(longer).sum().backward()
        assert all(p.grad is not None for p in small.parameters())
        again = surgeon.build(kept)
        again.load_state_dict(small.state_dict())
        torch.testing.assert_close(again(longer), small(longer))


@pytest.mark.parametrize("criterion", ["l1", "taylor", "obd", "wanda", "random"])
def test_recurrent_layers_are_scored(criterion: str) -> None:
    model, tokens = Reader(nn.LSTM, batch_first=True), torch.randint(20, (6, STEPS))
    network = trace(model, tokens[:1])
    scores = score(model, network, criterion, batches=[(tokens, torch.arange(6) % 2)], task=classification(2))
    for name in ("read.weight_ih_l0", "read.weight_hh_l0"):
        assert (scores.weights[name] > 0).float().mean() > 0.9
    assert len(scores.channels["read.weight_ih_l0"]) == HIDDEN


def test_the_fused_kernel_is_used_again_after_tracing() -> None:
    before = torch.backends.mkldnn.enabled
    trace(Reader(nn.LSTM), torch.randint(20, (1, STEPS)))
    assert torch.backends.mkldnn.enabled == before
