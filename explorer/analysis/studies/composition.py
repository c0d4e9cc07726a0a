"""Composition: what sub-networks are made of, layer by layer, against the dense network."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from spaces import Network, PruningSpace, Recipe
from spaces.layers import Dim

__all__ = ["composition", "recipe_text", "widths"]


def composition(network: Network, recipe: Recipe) -> pd.DataFrame:
    """Return one row a layer, in order: how many outputs it keeps of how many, and its pattern.

    Columns: ``layer``, ``dense`` and ``kept`` (output channels or features, 0 in a dropped block), ``granularity``
    (``dense``, ``filter`` where inputs or outputs are sliced, the pattern as text, both, or ``layer``) and ``share``
    (of the weights inside the kept channels that the pattern keeps).

    Parameters
    ----------
    network
        The Network.
    recipe
        One of its recipes.
    """
    known = recipe.canonical(network)
    dropped = [network.block[name] for name in known.blocks]
    rows = []
    for layer in network.layers:
        out, *others = network.tensor[layer.weight].dims
        pattern = known.patterns.get(layer.name)
        gone = any(block.holds(layer.name) for block in dropped)
        sliced = any(_width(dim, known) < dim.length for dim in (out, *others))
        parts = ["filter"] * sliced + ([] if pattern is None else [str(pattern)])
        rows.append(
            {
                "layer": layer.name,
                "dense": out.length,
                "kept": 0 if gone else _width(out, known),
                "granularity": "layer" if gone else " + ".join(parts) or "dense",
                "share": 0.0 if gone else 1.0 if pattern is None else pattern.ratio,
            }
        )
    return pd.DataFrame(rows, columns=["layer", "dense", "kept", "granularity", "share"])


def _width(dim: Dim, recipe: Recipe) -> int:
    """Return the kept entries of a dimension."""
    constant, entries = _entries(dim)
    return (
        constant + sum(round(count * recipe.ratios.get(unit, 1.0)) for unit, count in entries.items())
    ) // dim.groups


def _entries(dim: Dim) -> tuple[int, dict[str, int]]:
    """Return the fixed entries of a dimension, and those of each unit."""
    constant, entries = 0, dict[str, int]()
    for span in dim.spans:
        if span.unit is None:
            constant += span.entries
        else:
            entries[span.unit] = entries.get(span.unit, 0) + span.entries
    return constant, entries


def widths(space: PruningSpace, rows: npt.NDArray[np.int16]) -> npt.NDArray[np.int64]:
    """Return the kept outputs of every layer, (n, layers), as `composition` has them, for (n, axes) rows."""
    network = space.network
    # of tied units each has a ratio of its own
    ratios = {
        member.key: np.asarray(member.ratios)[rows[:, place]]
        for place, axis in enumerate(space.axes)
        for member in axis.addressed
    }
    out = np.zeros((len(rows), len(network.layers)), dtype=np.int64)
    for column, layer in enumerate(network.layers):
        dim = network.tensor[layer.weight].dims[0]
        constant, entries = _entries(dim)
        width = np.full(len(rows), constant, dtype=float)
        for unit, count in entries.items():
            ratio = ratios.get(("channels", unit))
            width += count if ratio is None else np.rint(count * ratio)
        width //= dim.groups
        for block in network.droppable:
            if block.holds(layer.name) and ("blocks", block.name) in ratios:
                width *= ratios["blocks", block.name]
        out[:, column] = width
    return out


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as YAML, the same text as `Recipe.to_yaml` makes, thousands in a second."""
    lines: list[str] = []
    for part, entries in recipe.to_dict().items():
        lines.append(f"{part}:")
        lines += [f"  {_scalar(str(name))}: {_value(entry)}" for name, entry in entries.items()]
    return "\n".join(lines) + "\n" if lines else "{}\n"


def _value(entry: object) -> str:
    if isinstance(entry, dict):
        return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in entry.items()) + "}"
    return _scalar(entry)


@lru_cache(maxsize=4096)
def _scalar(value: str | float) -> str:
    return yaml.safe_dump([value], default_flow_style=True, width=10_000).strip()[1:-1]
