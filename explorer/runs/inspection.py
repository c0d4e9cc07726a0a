"""`explore inspect`: what of a model can be pruned, what not and why, and how large the space is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from rich.table import Table

from explorer.analysis.facts import network_facts, space_facts
from explorer.runs.config import RunConfig
from explorer.runs.setup import Setup
from explorer.tracing import trace
from explorer.utils.console import console
from explorer.utils.modules import device_of
from spaces import Pattern, PruningError, PruningSpace

__all__ = ["inspect_model"]

Facts = Mapping[str, Any]

# of the layers that write a unit, so many are named; a residual stream has dozens
_SHOWN = 3


def inspect_model(config: RunConfig, *, as_json: bool = False) -> None:
    """Print units, layers, costs, what is fixed and why, and the size of the space inside the budget.

    Where ``model.weights`` is given, the dense network's error on validation and on test are measured too. Nothing
    is trained and nothing is written.

    Parameters
    ----------
    config
        Of a run.
    as_json
        Print all of it as one line of JSON instead of tables.

    Raises
    ------
    PruningError
        On any mistake in the configuration.
    """
    setup = Setup(config)
    weights = config.model.weights
    model = setup.dense() if weights is not None else setup.untrained()
    network = trace(model, setup.example(device_of(model)), name=config.model.factory.name)
    facts = network_facts(network)
    if not as_json:
        _print_network(facts)
    try:
        space = PruningSpace.from_config(network, config.space)
    except PruningError:
        if not as_json:
            console.print(_fixed_table(facts))
        raise
    facts |= space_facts(space, config.limits)
    if weights is not None:
        facts["measured"] = _measured(setup, model)
    if as_json:
        print(json.dumps(facts))
    else:
        _print_space(facts)


def _measured(setup: Setup, model: Any) -> dict[str, Any]:
    """Return the dense network's error on validation and test, and what it is called."""
    found = {split: setup.task.evaluate(model, setup.batches(split)) for split in ("validation", "test")}
    errors = {
        split: {"error": result.error, "error_se": None if result.error_se != result.error_se else result.error_se}
        for split, result in found.items()
    }
    return {"label": setup.task.label, "scale": setup.task.scale, **errors}


def _print_network(facts: Facts) -> None:
    dense, prunable, least = facts["dense"], facts["prunable"], facts["least"]
    console.print(
        f"[bold]{facts['network']}[/bold]: {dense['flops'] / 1e6:.2f} M multiply-adds, "
        f"{dense['params'] / 1e6:.2f} M parameters, {dense['bytes'] / 2**20:.2f} MiB"
    )
    console.print(
        f"channel units touch {_percent(prunable['flops'])} of the multiply-adds and {_percent(prunable['params'])} of "
        f"the parameters; with all of them at their narrowest {_percent(least['flops'])} and "
        f"{_percent(least['params'])} are left"
    )


def _print_space(facts: Facts) -> None:
    axes = {(axis["part"], axis["name"]): axis["choices"] for axis in facts["axes"]}
    if facts["units"]:
        console.print(_unit_table(facts, axes))
    console.print(_layer_table(facts, axes))
    if facts["blocks"]:
        console.print(_block_table(facts, axes))
    if facts["fixed"] or facts["fixed_blocks"]:
        console.print(_fixed_table(facts))
    for entry in facts["skipped"]:
        console.print(f"skipped by the space: {entry['name']} ({entry['reason']})")
    size, inside = int(facts["size"]), facts["inside"]
    about = f" (about {Decimal(size):.3e})" if size >= 10**15 else ""
    console.print(f"size of the space: {size:,} recipes on {len(axes)} axes{about}", soft_wrap=True)
    if inside is not None and inside["exact"]:
        console.print(f"inside the budget: exactly {int(inside['recipes']):,}")
    elif inside is not None:
        value, low, high = (f"{Decimal(inside[key]):.4g}" for key in ("recipes", "low", "high"))
        console.print(f"inside the budget: about {value} (95 % between {low} and {high})")
    if "measured" in facts:
        console.print("dense " + _errors(facts["measured"]))


def _errors(measured: Facts) -> str:
    """Return the dense network's errors as a sentence."""
    scale, parts = measured["scale"], []
    for split in ("validation", "test"):
        error, se = measured[split]["error"], measured[split]["error_se"]
        parts.append(f"{scale * error:.4g}" + ("" if se is None else f" ± {scale * se:.2g}") + f" on {split}")
    return f"{measured['label']}: {', '.join(parts)}"


def _unit_table(facts: Facts, axes: Mapping[tuple[str, str], list[Any]]) -> Table:
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


def _layer_table(facts: Facts, axes: Mapping[tuple[str, str], list[Any]]) -> Table:
    table = Table(title="layers", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("kind")
    for header in ("weight", "multiply-adds", "of all", "choices"):
        table.add_column(header, justify="right")
    table.add_column("patterns", overflow="fold")
    for layer in facts["layers"]:
        choices = axes.get(("weights", layer["name"]))
        patterns, count = ("stays dense", 1) if choices is None else (_patterns(choices), len(choices))
        shape, share = "x".join(map(str, layer["weight"])), _percent(layer["share"])
        table.add_row(layer["name"], layer["kind"], shape, f"{layer['flops']:,}", share, str(count), patterns)
    for product in facts["products"]:
        share = _percent(product["share"])
        table.add_row(product["name"], "product", "", f"{product['flops']:,}", share, "", "of activations")
    return table


def _patterns(choices: Iterable[Any]) -> str:
    """Return the ratios of each kind of pattern."""
    kinds: dict[str, list[float]] = {}
    for choice in choices:
        if choice is not None:
            pattern = Pattern.of(choice)
            kinds.setdefault(pattern.kind, []).append(pattern.ratio)
    return ", ".join(f"{kind} {_ratios(ratios)}" for kind, ratios in kinds.items())


def _ratios(ratios: Iterable[float]) -> str:
    return " ".join(f"{ratio:.4g}" for ratio in ratios)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _block_table(facts: Facts, axes: Mapping[tuple[str, str], list[Any]]) -> Table:
    table = Table(title="residual blocks", title_justify="left")
    table.add_column("block", overflow="fold")
    table.add_column("choices", justify="right")
    table.add_column("can be")
    names = {(1,): "kept", (0,): "dropped", (1, 0): "kept or dropped"}
    for block in facts["blocks"]:
        choices = tuple(int(choice) for choice in axes.get(("blocks", block), [1]))
        table.add_row(block, str(len(choices)), names[choices])
    return table


def _fixed_table(facts: Facts) -> Table:
    table = Table(title="fixed", title_justify="left")
    table.add_column("layer", overflow="fold")
    table.add_column("channels", justify="right")
    table.add_column("why", overflow="fold")
    for entry in facts["fixed"]:
        table.add_row(entry["name"], str(entry["channels"]), entry["reason"])
    for block in facts["fixed_blocks"]:
        table.add_row(block["name"], "block", block["reason"])
    return table
