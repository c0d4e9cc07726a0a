"""Halves of blocks: what is only added to a residual can go alone; dropped and multiplied by zero are the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from explorer.pruning.surgery import Surgeon
from explorer.tracing import trace
from explorer.tracing.verification.masking import masked
from spaces import Network, PruningError, PruningSpace, Recipe, costs_of
from tests.support.identities import counted, fresh, outputs, random_kept, random_recipe
from tests.support.small_models import Fn, tokens

TOKENS = tokens()


def attention() -> nn.Module:
    """Return attention of two heads without a residual of its own."""

    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, 4)).transpose(1, 2) for layer in (m.q, m.k, m.v))
        return m.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    return Fn(forward, **{name: nn.Linear(8, 8) for name in "qkvo"})


def feed_forward() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))


def _first(m: Any, x: Tensor) -> Tensor:
    x = x + m.a(m.n(x))
    return x + m.f(m.l(x))


def _last(m: Any, x: Tensor) -> Tensor:
    x = m.n(x + m.a(x))
    return m.l(x + m.f(x))


def _parallel(m: Any, x: Tensor) -> Tensor:
    h = m.n(x)
    return x + m.a(h) + m.f(h)


def _dropped_out(m: Any, x: Tensor) -> Tensor:
    x = x + m.d(m.a(m.n(x)))
    return x + m.d(m.f(m.l(x)))


def _read(m: Any, x: Tensor) -> Tensor:
    h = m.a(m.n(x))
    x = x + h
    return x + m.f(m.l(x)) * h.mean()


def _after(m: Any, x: Tensor) -> Tensor:
    x = x + m.n(m.a(x))
    return x + m.l(m.f(x))


def _alone(m: Any, x: Tensor) -> Tensor:
    return x + m.f(m.l(x))


def model(forward: Callable[..., Any], count: int = 2) -> nn.Module:
    """Return a model of tokens with so many blocks of attention `a` and MLP `f`."""

    def block() -> nn.Module:
        parts = {"a": attention(), "n": nn.LayerNorm(8), "l": nn.LayerNorm(8), "f": feed_forward()}
        used = parts if forward is not _alone else {name: parts[name] for name in "lf"}
        return Fn(forward, **used, **({"d": nn.Dropout(0.1)} if forward is _dropped_out else {}))

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), *(block() for _ in range(count)), nn.Linear(8, 3)).eval()


CASES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "norms first": (_first, ["a", "f"]),
    # zeros would be what the norm reads, not what the residual is
    "norms last": (_last, ["a", "f"]),
    "side by side": (_parallel, ["a", "f"]),
    "dropout between": (_dropped_out, ["a", "f"]),
    "read by something else": (_read, []),
    "norms behind": (_after, []),
    "all that the block has": (_alone, []),
}


def _names(names: list[str]) -> list[str]:
    return [f"{place}.{name}" for place in (1, 2) for name in names]


@pytest.mark.parametrize("name", CASES)
def test_halves(name: str) -> None:
    forward, expected = CASES[name]
    network = trace(model(forward), TOKENS)
    assert [half.name for half in network.halves] == _names(expected)
    assert all(half.adds for half in network.halves)
    assert not any(block.adds for block in network.blocks)
    assert Network.from_yaml(network.to_yaml()) == network
    assert ("halves" in network.to_yaml()) == bool(expected)


@pytest.mark.parametrize("name", [name for name, (_, expected) in CASES.items() if expected])
def test_dropped_is_masked_and_costs_are_counted(name: str) -> None:
    forward, _ = CASES[name]
    dense, rng = fresh(model(forward)), np.random.default_rng(0)
    network = trace(model(forward), TOKENS)
    halves = [half.name for half in network.halves]
    for dropped in [*([half] for half in halves), halves, ["1.a", "2"]]:
        recipe = random_recipe(network, rng)
        kept = random_kept(network, recipe, rng)
        given = [drop for drop in dropped if drop in network.block]
        small = Surgeon(dense, network).build(kept, given)
        expected = outputs(masked(dense, network, kept, given), TOKENS)
        torch.testing.assert_close(outputs(small, TOKENS), expected, rtol=1e-9, atol=1e-9)
        small = Surgeon(model(forward), network).build(kept, given)
        assert costs_of(network, Recipe.of(recipe.ratios, blocks=given)) == counted(small, TOKENS)


def test_without_both_halves_a_block_passes_on_what_it_is_given() -> None:
    dense = fresh(model(_first))
    network = trace(model(_first), TOKENS)
    halves, whole = (Surgeon(dense, network).build({}, names) for names in (["1.a", "1.f"], ["1"]))
    torch.testing.assert_close(outputs(halves, TOKENS), outputs(whole, TOKENS), rtol=0, atol=0)


def _space(**entry: Any) -> dict[str, Any]:
    choices = [{"granularity": "layer", "ratios": [1, 0]}]
    return {"blocks": [{"match": "*", "choices": choices, **entry}]}


def test_a_space_has_halves_where_it_asks_for_them() -> None:
    network = trace(model(_first), TOKENS)
    assert [axis.name for axis in PruningSpace.from_config(network, _space()).axes] == ["1", "2"]
    space = PruningSpace.from_config(network, _space(halves=True))
    assert [axis.name for axis in space.axes] == ["1", "2", "1.a", "1.f", "2.a", "2.f"]
    # of a dropped block nothing else is to choose: (1 + 2 * 2) each
    assert space.size == len(list(space)) == len(set(space)) == 25
    recipe = Recipe.of({}, blocks=["1", "1.a", "2.f"]).canonical(network)
    assert recipe.blocks == ("1", "2.f")
    assert space.recipe(space.row(recipe)) == recipe
    only = PruningSpace.from_config(network, {"blocks": [{**_space(halves=True)["blocks"][0], "match": "*.a"}]})
    assert [axis.name for axis in only.axes] == ["1.a", "2.a"]


def test_halves_are_true_or_false_and_of_blocks() -> None:
    network = trace(model(_first), TOKENS, verify=False)
    with pytest.raises(PruningError, match=r"space\.blocks\[0\]\.halves: 1, allowed is true or false"):
        PruningSpace.from_config(network, _space(halves=1))
    weights = {"match": "*", "choices": [{"granularity": "element", "ratios": [0.5]}], "halves": True}
    with pytest.raises(PruningError, match=r"space\.weights\[0\]: 'halves' is unknown"):
        PruningSpace.from_config(network, {"weights": [weights]})
