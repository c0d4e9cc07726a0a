"""Neighbourhood: the choices near those of one recipe, and the space of that recipe alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spaces.axis import Axis, Choice
from spaces.errors import PruningError
from spaces.granularity import Pattern
from spaces.network import Network
from spaces.recipe import Recipe

__all__ = ["entries_of", "nearby", "space_file_around"]

_DENSE: dict[str, Choice] = {"channels": 1.0, "weights": None, "blocks": 1}


def nearby(network: Network, axes: Sequence[Axis], recipe: Recipe, radius: int) -> tuple[Axis, ...]:
    """Return axes with the choices that are at most `radius` steps from a recipe's.

    A step is one to a neighbouring choice, see `Axis.neighbours`: the next ratio, or the same ratio in another kind of
    pattern. A ratio that is no choice of the axis counts as the nearest of its kind. Axes inside a block that the
    recipe drops stay whole, since it says nothing of them.

    Parameters
    ----------
    network, axes
        Of the space.
    recipe
        The middle.
    radius
        Steps on every axis; with 0 the recipe alone is left.

    Raises
    ------
    PruningError
        If the recipe is not of this network, prunes what has no axis, or has a kind of pattern that its axis has not.
    """
    known = recipe.canonical(network)
    dropped = [network.block[name] for name in known.blocks]
    given: dict[tuple[str, str], Choice] = {
        **{("channels", name): ratio for name, ratio in known.channels},
        **{("weights", name): pattern for name, pattern in known.weights},
        **{("blocks", name): 0 for name in known.blocks},
    }
    found = []
    for axis in axes:
        chosen = [given.pop(one.key, _DENSE[axis.part]) for one in axis.addressed]
        hidden = any(_inside(network, one, block.name) for one in axis.addressed for block in dropped)
        # of those that are tied the first says where
        found.append(axis if hidden else _within(axis, _place(axis.addressed[0], chosen[0]), radius))
    if given:
        part, name = next(iter(given))
        raise PruningError(f"space.around: the space leaves {part} of {name} whole, and the recipe does not")
    return tuple(found)


def space_file_around(recipe: Recipe) -> dict[str, Any]:
    """Return the space file that holds one recipe alone.

    Raises
    ------
    PruningError
        If the recipe keeps everything.
    """
    axes = [Axis("channels", name, (ratio,)) for name, ratio in recipe.channels]
    axes += [Axis("weights", name, (pattern,)) for name, pattern in recipe.weights]
    axes += [Axis("blocks", name, (0,)) for name in recipe.blocks]
    if not axes:
        raise PruningError("recipe: it keeps everything, allowed is one that removes something")
    # with the recipe as its middle, names that the network has not are refused
    return entries_of(axes) | {"around": {"recipe": recipe.to_dict(), "radius": 0}}


def entries_of(axes: Sequence[Axis]) -> dict[str, Any]:
    """Return the lists of a space file that give these axes again, an entry for each."""
    out: dict[str, Any] = {}
    for axis in axes:
        for one in axis.addressed:
            out.setdefault(axis.part, []).append({"match": _literal(one.name), "choices": _choices(axis)})
    return out


def _inside(network: Network, axis: Axis, block: str) -> bool:
    if axis.part == "channels":
        return block in network.enclosing[axis.name]
    return axis.name != block and network.block[block].holds(axis.name)


def _place(axis: Axis, choice: Choice) -> int:
    """Return the place of a choice on an axis, or of the nearest of its kind."""
    if choice in axis.choices:
        return axis.choices.index(choice)
    if isinstance(choice, Pattern):
        if choice.kind not in axis.kinds:
            allowed = ", ".join(axis.kinds)
            raise PruningError(f"space.around: {axis.name} has {choice.kind} in the recipe, allowed are {allowed}")
        return axis.nearest(choice.ratio, choice.kind)
    ratio = 1.0 if choice is None else float(choice)
    return min(range(len(axis.choices)), key=lambda i: (abs(axis.ratios[i] - ratio), i))


def _within(axis: Axis, middle: int, radius: int) -> Axis:
    reached = {middle}
    for _ in range(radius):
        further = reached | {i for place in reached for i in axis.neighbours[place]}
        if further == reached:
            break
        reached = further
    return axis.only(sorted(reached))


def _choices(axis: Axis) -> list[dict[str, Any]]:
    """Return an axis's choices as they stand in a space file, the ratios of one granularity together."""
    if axis.part != "weights":
        name = "filter" if axis.part == "channels" else "layer"
        return [{"granularity": name, "ratios": list(axis.choices)}]
    out: list[dict[str, Any]] = []
    for choice in axis.choices:
        if not isinstance(choice, Pattern):
            out.append({"granularity": "none"})
            continue
        plain = choice.to_dict()
        ratio = plain.pop("ratio", None)
        same = next((one for one in out if ratio is not None and _without(one) == plain), None)
        if same is None:
            out.append(plain if ratio is None else plain | {"ratios": [ratio]})
        else:
            same["ratios"].append(ratio)
    return out


def _without(choice: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in choice.items() if key != "ratios"}


def _literal(name: str) -> str:
    """Return the glob that matches a name only."""
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)
