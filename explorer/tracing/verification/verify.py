"""Every unit is checked when a model is traced: masked must equal sliced, or the unit is fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from explorer.tracing.returned import Outputs
from explorer.tracing.verification.check import Check, UncheckableError
from explorer.tracing.verification.fixing import with_fixed
from explorer.tracing.verification.sifting import Item, sifted
from spaces import BlockUnit, Network

__all__ = ["verified"]


def verified(
    model: nn.Module, network: Network, examples: Sequence[Any], outputs: Outputs = None, *, training: bool = False
) -> Network:
    """Return `network` with every unit fixed whose sliced model crashes or differs from the masked one.

    A temporary copy with random parameters and statistics is used, in eval mode and float64 to a relative
    1e-9; above 200 M parameters, and where the model insists on it, in float32 to 1e-3. All units are checked
    at once and bisected on a mismatch, in rounds with other subsets. Blocks are dropped beside them: first all that
    do not lie in each other at once, then some of all in the last rounds. Before that the output of each must follow
    its argument while the layers of all are silent.

    Of what the model returns the `outputs` are compared, for each of the `examples`.

    With `training` the sliced model must also run in training mode, where auxiliary heads read channels.

    Raises
    ------
    PruningError
        If the model cannot be copied.
    """
    if not network.units and not network.droppable:
        return network
    try:
        check = Check(model, network, examples, outputs)
    except UncheckableError as error:
        return with_fixed(network, dict.fromkeys((*network.units, *network.droppable), str(error)))
    if network.sizes:
        network = _with_needed_sizes(check, network)
        check = check.of(network)
    good: list[Item] = list(network.units)
    bad: dict[Item, str] = {}
    for number in range(check.rounds.count):
        if number == check.rounds.joint:
            blocks, worse = _good_blocks(check, good, network.droppable)
            good += blocks
            bad |= worse
        good, worse = sifted(partial(check, number=number), good)
        bad |= worse
    if training and check.runs_in_training():
        good, worse = sifted(check.training, good)
        bad |= worse
    return with_fixed(network, bad)


def _with_needed_sizes(check: Check, network: Network) -> Network:
    """Return the network without the attributes of units that are right as well when these stay as they are."""
    units = {name for size in network.sizes for name in size.dim.units}
    sized: list[Item] = [unit for unit in network.units if unit.name in units]
    fine, _ = sifted(partial(check.of(replace(network, sizes=())), number=0), sized)
    names = {item.name for item in fine}
    return replace(network, sizes=tuple(size for size in network.sizes if not size.dim.units <= names))


def _good_blocks(check: Check, units: list[Item], blocks: Sequence[BlockUnit]) -> tuple[list[Item], dict[Item, str]]:
    """Return the blocks that can be dropped beside `units`, and the reason for each other one."""
    bad: dict[Item, str] = dict(check.following(blocks).items())
    good: list[Item] = []
    depth = {block: sum(other.holds(block.name) for other in blocks) for block in blocks if block not in bad}
    for level in sorted(set(depth.values())):
        alike: list[Item] = [block for block in depth if depth[block] == level]
        passed, worse = sifted(lambda some: check([*units, *some], number=0), alike)
        good += passed
        bad |= worse
    return good, bad
