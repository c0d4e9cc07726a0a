"""`explore inspect`: what of a model can be pruned, what not and why, and how large the space is."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import numpy as np
from rich.table import Table

from explorer.budgets import split_budget
from explorer.config import Config, space_of
from explorer.progress import console
from explorer.running import device_of
from explorer.setup import Setup
from explorer.tracing import trace
from spaces import Axis, Network, Pattern, PruningError, PruningSpace, count_inside, dense_costs

__all__ = ["inspect_model"]


def inspect_model(config: Config) -> None:
    """Print units, layers, costs, what is fixed and why, and the size of the space inside the budget.

    Where ``model.weights`` is given, the dense network's error on validation and its accuracy on test are
    measured too. Nothing is trained and nothing is written.

    Raises
    ------
    PruningError
        On any mistake in the configuration.
    """
    setup = Setup(config)
    weights = config["model"]["weights"]
    model = setup.dense() if weights is not None else setup.untrained()
    network = trace(model, setup.example(device_of(model)), name=config["model"]["name"])
    costs = dense_costs(network)
    console.print(
        f"[bold]{network.name}[/bold]: {costs['flops'] / 1e6:.2f} M multiply-adds, "
        f"{costs['params'] / 1e6:.2f} M parameters, {costs['bytes'] / 2**20:.2f} MiB, "
        f"{100 * prunable_share(network):.0f} % of the multiply-adds in layers that a unit touches"
    )
    try:
        space = PruningSpace.from_config(network, space_of(config))
    except PruningError:
        console.print(_fixed_table(network))
        raise
    if network.units:
        console.print(_unit_table(space))
    console.print(_layer_table(space))
    if network.blocks:
        console.print(_block_table(space))
    if network.fixed or network.fixed_blocks:
        console.print(_fixed_table(network))
    for layer, reason in space.skipped:
        console.print(f"skipped by the space: {layer} ({reason})")
    _print_size(space, config)
    if weights is not None:
        shown = setup.task.column
        test, seen = (setup.task.evaluate(model, setup.batches(split)) for split in ("test", "validation"))
        console.print(
            f"dense {shown.label}: {shown.scale * seen.error:.4g} (± {shown.scale * seen.error_se:.2g}), "
            f"test: {shown.scale * test.error:.4g} (± {shown.scale * test.error_se:.2g})"
        )


def prunable_share(network: Network) -> float:
    """Return the share of the FLOPs in layers of whose weight a unit owns a dimension."""
    flops = {layer.name: layer.positions * _entries(network, layer.weight) for layer in network.layers}
    touched = sum(flops[layer.name] for layer in network.layers if network.tensor[layer.weight].units)
    return touched / sum(flops.values()) if flops else 0.0


def _entries(network: Network, tensor: str) -> int:
    return int(np.prod([dim.length for dim in network.tensor[tensor].dims]))


def _unit_table(space: PruningSpace) -> Table:
    table = Table(title="channel units", title_justify="left")
    for header, justify in [("unit", "left"), ("channels", "right"), ("step", "right"), ("choices", "right")]:
        table.add_column(header, justify=justify)  # type: ignore[arg-type]
    table.add_column("ratios kept")
    table.add_column("also written by", overflow="fold")
    axes = {axis.name: axis for axis in space.axes if axis.part == "channels"}
    for unit in space.network.units:
        axis = axes.get(unit.name)
        ratios = _ratios(axis.ratios) if axis else "stays dense"
        others = ", ".join(writer for writer in unit.writers if writer != unit.name)
        count = str(len(axis.choices)) if axis else "1"
        table.add_row(unit.name, str(unit.channels), str(unit.step), count, ratios, others)
    return table


def _layer_table(space: PruningSpace) -> Table:
    network = space.network
    table = Table(title="layers", title_justify="left")
    table.add_column("layer")
    table.add_column("kind")
    table.add_column("weight", justify="right")
    table.add_column("multiply-adds", justify="right")
    table.add_column("of all", justify="right")
    table.add_column("choices", justify="right")
    table.add_column("patterns", overflow="fold")
    axes = {axis.name: axis for axis in space.axes if axis.part == "weights"}
    total = max(1, dense_costs(network)["flops"])
    for layer in network.layers:
        shape = "x".join(str(dim.length) for dim in network.tensor[layer.weight].dims)
        flops = layer.positions * _entries(network, layer.weight)
        axis = axes.get(layer.name)
        count, patterns = ("1", "stays dense") if axis is None else (str(len(axis.choices)), _patterns(axis))
        table.add_row(layer.name, layer.kind, shape, f"{flops:,}", f"{100 * flops / total:.1f} %", count, patterns)
    return table


def _patterns(axis: Axis) -> str:
    """Return the ratios of each kind of pattern."""
    kinds = (
        (kind, [c.ratio for c in axis.choices if isinstance(c, Pattern) and c.kind == kind]) for kind in axis.kinds
    )
    return ", ".join(f"{kind} {_ratios(ratios)}" for kind, ratios in kinds)


def _ratios(ratios: Iterable[float]) -> str:
    return " ".join(f"{ratio:.4g}" for ratio in ratios)


def _block_table(space: PruningSpace) -> Table:
    table = Table(title="residual blocks", title_justify="left")
    table.add_column("block")
    table.add_column("choices", justify="right")
    table.add_column("can be")
    axes = {axis.name: axis for axis in space.axes if axis.part == "blocks"}
    for block in space.network.blocks:
        choices = axes[block.name].choices if block.name in axes else (1,)
        names = {(1,): "kept", (0,): "dropped", (1, 0): "kept or dropped"}
        table.add_row(block.name, str(len(choices)), names[tuple(int(c) for c in choices)])  # type: ignore[arg-type]
    return table


def _fixed_table(network: Network) -> Table:
    table = Table(title="fixed", title_justify="left")
    table.add_column("layer")
    table.add_column("channels", justify="right")
    table.add_column("why", overflow="fold")
    for entry in network.fixed:
        table.add_row(entry.name, str(entry.channels), entry.reason)
    for block in network.fixed_blocks:
        table.add_row(block.name, "block", block.reason)
    return table


def _print_size(space: PruningSpace, config: Config) -> None:
    about = f" (about {Decimal(space.size):.3e})" if space.size >= 10**15 else ""
    console.print(f"size of the space: {space.size:,} recipes on {len(space.axes)} axes{about}", soft_wrap=True)
    budget, _ = split_budget(config["budget"])
    if budget or space.constraints:
        inside = count_inside(space, np.random.default_rng(0), budget=budget)
        if inside.exact:
            console.print(f"inside the budget: exactly {int(inside.value):,}")
        else:
            value, low, high = (f"{Decimal(amount):.4g}" for amount in (inside.value, inside.low, inside.high))
            console.print(f"inside the budget: about {value} (95 % between {low} and {high})")
