"""Ties: which units and weights a glob makes share one choice."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from spaces.axis import Axis
from spaces.errors import PruningError, unknown
from spaces.network import Network
from spaces.tree import home

__all__ = ["check_homes", "check_ties", "tie_of"]


def tie_of(globs: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first glob that matches every one of the layers, or modules that hold them; None where none does.

    Parameters
    ----------
    globs
        ``space.tie``.
    names
        All that write a channel unit, so that a residual stream is not tied by what only adds to it; or one layer.
    """
    return next((glob for glob in globs if all(_inside(glob, name) for name in names)), None)


def check_ties(globs: Sequence[str], network: Network) -> None:
    """Check that every glob matches a unit or a layer of a network.

    Raises
    ------
    PruningError
        If one does not; the message has the nearest spelling.
    """
    members = [list(unit.writers) or [unit.name] for unit in network.units]
    members += [[layer.name] for layer in network.layers]
    for glob in globs:
        if not any(tie_of([glob], names) for names in members):
            modules = [module for names in members for name in names[:1] for module in _modules(name)]
            # blocks that repeat differ in their numbers
            near: list[str] = list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", module) for module in modules))
            near.sort(key=lambda name: "*" not in name)
            raise unknown("space.tie", glob, near)


def check_homes(network: Network, axes: Sequence[Axis]) -> None:
    """Check that what an axis ties lies in the same block, of those that can be dropped, or all of it in none.

    Without a block the axis would else decide less than with it, and recipes could not be counted as they are.

    Raises
    ------
    PruningError
        If it does not.
    """
    blocks = [axis.name for axis in axes if axis.part == "blocks"]
    for axis in axes:
        homes = {one.name: home(network, one, blocks) for one in axis.members}
        if len(set(homes.values())) > 1:
            one, other = list({block: name for name, block in homes.items()}.values())[:2]
            raise PruningError(
                f"space.tie: {axis.name!r} ties {one!r} and {other!r}, which go with different blocks that can be "
                "dropped; allowed is a tie inside one block, or one in a space without blocks (space.blocks=[])"
            )


def _modules(name: str) -> list[str]:
    """Return a layer's name and those of the modules that hold it, the layer last."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _inside(glob: str, name: str) -> bool:
    return any(fnmatch.fnmatchcase(module, glob) for module in _modules(name))
