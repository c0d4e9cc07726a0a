"""Network: what tracing found survives a file, and its identity is its content."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from spaces import (
    BlockUnit,
    ChannelUnit,
    Dim,
    FixedBlock,
    FixedChannels,
    Layer,
    Leaf,
    Network,
    Product,
    PruningError,
    Span,
    Tensor,
)
from tests.support.synthetic import chain

MIXED = Dim((Span("a", 0, 3, 2), Span(None, 0, 4), Span("a", 3, 1, 2)))
NETWORK = Network(
    name="all there is",
    units=(ChannelUnit("a", 8, tied=2, groups=1, writers=("a", "b.c")),),
    fixed=(FixedChannels("head", 10, "tied to the model's output: 'x'"),),
    tensors=(
        Tensor("a.weight", (MIXED, Dim((Span("a", 0, 4, 2),), groups=2, reads=True)), 2),
        Tensor("n", (), 8, False),
    ),
    layers=(Layer("a", "conv", "a.weight", 2**60),),
    leaves=(Leaf("shortcut", MIXED, MIXED),),
    blocks=(BlockUnit("b", 0), BlockUnit("c", ("x", None, 1))),
    fixed_blocks=(FixedBlock("d", "changes the shape"),),
    products=(Product("attention", 7, (Dim((Span("a", 0, 4),)),)),),
)


@pytest.mark.parametrize("network", [NETWORK, chain([4, 2]), Network("empty")])
def test_yaml_round_trip(network: Network, tmp_path: Path) -> None:
    network.save(tmp_path / "network.yaml")
    found = Network.load(tmp_path / "network.yaml")
    assert found == network
    assert found.identity == network.identity


@pytest.mark.parametrize("field", ["units", "fixed", "tensors", "layers", "leaves"])
def test_identity_changes_with_everything_but_the_name(field: str) -> None:
    assert dataclasses.replace(NETWORK, name="other").identity == NETWORK.identity
    assert dataclasses.replace(NETWORK, **{field: ()}).identity != NETWORK.identity
    assert dataclasses.replace(NETWORK, products=(Product("attention", 8),)).identity != NETWORK.identity


@pytest.mark.parametrize("text", ["", "[]", "name: x", "{", "name: x\nunits: 3", "a: !!python/object:os.system {}"])
def test_other_files_are_one_line(text: str) -> None:
    with pytest.raises(PruningError, match=r"^network: ") as caught:
        Network.from_yaml(text)
    assert "\n" not in str(caught.value)


def test_unit_arithmetic() -> None:
    unit = ChannelUnit("a", 48, tied=2, groups=3)
    assert (unit.atoms, unit.step, unit.steps) == (24, 6, 8)
    assert MIXED.length == 12
    assert MIXED.units == {"a"}
    assert Dim((Span("a", 0, 4, 2),), groups=2).length == 4
