"""Views of a network and its space, as `explore inspect` prints them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from spaces import Pattern

__all__ = ["block_view", "fixed_view", "layer_view", "percent", "unit_view"]

Facts = Mapping[str, Any]

# of the layers that write a unit, so many are named; a residual stream has dozens
_SHOWN = 3


def percent(share: float) -> str:
    """Return a share as text, in percent."""
    return f"{100 * share:.1f} %"


def unit_view(facts: Facts, axes: Mapping[tuple[str, str], list[Any]]) -> Table:
    """Return the channel units as a table to print, `axes` giving the choices by part and name."""
    table = Table(title="channel units", title_justify="left")
    table.add_column("unit", overflow="fold")
    for header in ("channels", "step", "choices"):
        table.add_column(header, justify="right")
    table.add_column("ratios kept")
    table.add_column("also written by", overflow="fold")
    for unit in facts["units"]:
        choices = axes.get(("channels", unit["name"]))
        ratios, count = ("stays dense", 1) if choices is None else (_ratios(choices), len(choices))
        others = [writer for writer in unit["writers"] if writer != unit["name"]]
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        also = ", ".join(others[:_SHOWN]) + more
        table.add_row(unit["name"], str(unit["channels"]), str(unit["step"]), str(count), ratios, also)
    return table


def layer_view(facts: Facts, axes: Mapping[tuple[str, str], list[Any]]) -> Table:
    """Return the layers, and the products of activations, as a table to print."""
    table = Table(title="layers", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("kind")
    for header in ("weight", "multiply-adds", "of all", "choices"):
        table.add_column(header, justify="right")
    table.add_column("patterns", overflow="fold")
    for layer in facts["layers"]:
        choices = axes.get(("weights", layer["name"]))
        patterns, count = ("stays dense", 1) if choices is None else (_patterns(choices), len(choices))
        shape, share = "x".join(map(str, layer["weight"])), percent(layer["share"])
        table.add_row(layer["name"], layer["kind"], shape, f"{layer['flops']:,}", share, str(count), patterns)
    for product in facts["products"]:
        share = percent(product["share"])
        table.add_row(product["name"], "product", "", f"{product['flops']:,}", share, "", "of activations")
    return table


def _patterns(choices: Iterable[Any]) -> str:
    """Return the ratios of each kind of pattern, as text."""
    kinds: dict[str, list[float]] = {}
    for choice in choices:
        if choice is not None:
            pattern = Pattern.of(choice)
            kinds.setdefault(pattern.kind, []).append(pattern.ratio)
    return ", ".join(f"{kind} {_ratios(ratios)}" for kind, ratios in kinds.items())


def _ratios(ratios: Iterable[float]) -> str:
    return " ".join(f"{ratio:.4g}" for ratio in ratios)


def block_view(facts: Facts, axes: Mapping[tuple[str, str], list[Any]]) -> Table:
    """Return the residual blocks, and the halves of blocks, as a table to print."""
    table = Table(title="residual blocks", title_justify="left")
    table.add_column("block", overflow="fold")
    table.add_column("choices", justify="right")
    table.add_column("can be")
    names = {(1,): "kept", (0,): "dropped", (1, 0): "kept or dropped"}
    for block in (*facts["blocks"], *facts["halves"]):
        choices = tuple(int(choice) for choice in axes.get(("blocks", block), [1]))
        table.add_row(block, str(len(choices)), names[choices])
    return table


def fixed_view(facts: Facts) -> Table:
    """Return the layers and blocks that cannot be pruned, and why, as a table to print."""
    table = Table(title="fixed", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("channels", justify="right")
    table.add_column("why", overflow="fold")
    for entry in facts["fixed"]:
        table.add_row(entry["name"], str(entry["channels"]), entry["reason"])
    for block in facts["fixed_blocks"]:
        table.add_row(block["name"], "block", block["reason"])
    return table
