"""`explore inspect`: the units, layers and costs of a model, its fixed layers and why, and the size of the space."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from explorer.analysis.facts import network_facts, space_facts
from explorer.analysis.multirun_folder import MultirunFolder
from explorer.analysis.network_views import block_view, fixed_view, layer_view, percent, unit_view
from explorer.analysis.run_folder import RunFolder
from explorer.analysis.views import jobs_view
from explorer.evaluation.budgets import split_budget
from explorer.runs.config import RunConfig
from explorer.runs.outcome import show_outcome
from explorer.utils.console import console
from spaces import PruningError, PruningSpace

if TYPE_CHECKING:
    from explorer.runs.setup import Setup

# torch and what needs it are imported inside: a run is inspected without them

__all__ = ["inspect_model", "inspect_multirun", "inspect_run"]

Facts = Mapping[str, Any]


def inspect_model(config: RunConfig, *, as_json: bool = False) -> None:
    """Print units, layers and costs, fixed layers and why, and the size of the space inside the budget.

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
    from explorer.runs.setup import Setup

    setup = Setup(config)
    weights = config.model.weights
    model = setup.dense() if weights is not None else setup.untrained()
    network = setup.traced(model)
    facts = network_facts(network)
    if not as_json:
        _print_network(facts)
    try:
        space = PruningSpace.from_config(network, config.space)
    except PruningError:
        if not as_json:
            console.print(fixed_view(facts))
        raise
    facts |= space_facts(space, config.limits)
    if weights is not None:
        facts["measured"] = _measured(setup, model)
    if as_json:
        print(json.dumps(facts))
    else:
        _print_space(facts)


def inspect_run(folder: RunFolder, *, as_json: bool = False) -> None:
    """Print the network and the space of a run, and what it found, from its files; nothing of the folder is run.

    Parameters
    ----------
    folder
        Of the run.
    as_json
        Print network, space and summary as one line of JSON instead of tables.

    Raises
    ------
    PruningError
        If the folder holds no run.
    """
    config, network, summary = folder.config(), folder.network(), folder.summary()
    if config is None or network is None:
        raise PruningError(f"folder: {str(folder)!r} holds no run ({', '.join(folder.damaged())} not there or damaged)")
    limits, _ = split_budget(config["budget"])
    # a space of a file is kept with the run's identity
    space = PruningSpace.from_config(network, config["identity"]["space"])
    facts = network_facts(network) | space_facts(space, limits)
    if as_json:
        print(json.dumps(facts | {"summary": summary}))
        return
    _print_network(facts)
    _print_space(facts)
    if summary is not None:
        show_outcome(folder, drawn="regime" in config)


def inspect_multirun(folder: MultirunFolder, *, as_json: bool = False) -> None:
    """Print the jobs of a multirun and where the folders of its runs are; as one line of JSON the rows of its table."""
    rows = list(folder.rows().values())
    if as_json:
        print(json.dumps(rows))
        return
    console.print(jobs_view(rows, folder.errors()))
    for place, row in enumerate(rows, 1):
        console.print(f"job {place}: {folder.job(row['job'])}", soft_wrap=True, highlight=False)


def _measured(setup: Setup, model: Any) -> dict[str, Any]:
    """Return the dense network's error on validation and test, and how the error is named and shown."""
    found = {split: setup.task.evaluate(model, setup.batches(split)) for split in ("validation", "test")}
    errors = {
        split: {"error": result.error, "error_se": None if result.error_se != result.error_se else result.error_se}
        for split, result in found.items()
    }
    return {"label": setup.task.label, "scale": setup.task.scale, **errors}


def _print_network(facts: Facts) -> None:
    dense, prunable, least = facts["dense"], facts["prunable"], facts["least"]
    memory = f", {dense['memory'] / 2**20:.2f} MiB with keys and values" if "memory" in dense else ""
    console.print(
        f"[bold]{facts['network']}[/bold]: {dense['flops'] / 1e6:.2f} M multiply-adds, "
        f"{dense['params'] / 1e6:.2f} M parameters, {dense['bytes'] / 2**20:.2f} MiB{memory}"
    )
    console.print(
        f"channel units touch {percent(prunable['flops'])} of the multiply-adds and {percent(prunable['params'])} of "
        f"the parameters; with all of them at their narrowest {percent(least['flops'])} and "
        f"{percent(least['params'])} are left"
    )


def _print_space(facts: Facts) -> None:
    axes = {
        (axis["part"], one["name"]): one["choices"] for axis in facts["axes"] for one in axis.get("members", [axis])
    }
    if facts["units"]:
        console.print(unit_view(facts, axes))
    console.print(layer_view(facts, axes))
    if facts["blocks"] or facts["halves"]:
        console.print(block_view(facts, axes))
    if facts["fixed"] or facts["fixed_blocks"]:
        console.print(fixed_view(facts))
    for axis in facts["axes"]:
        if "members" in axis:
            names = ", ".join(one["name"] for one in axis["members"])
            choices = f"{len(axis['choices'])} choices of {axis['part']}"
            console.print(f"tied by {axis['name']}: {choices} for all of {names}", soft_wrap=True)
    for entry in facts["skipped"]:
        console.print(f"skipped by the space: {entry['name']} ({entry['reason']})")
    size, inside = int(facts["size"]), facts["inside"]
    about = f" (about {Decimal(size):.3e})" if size >= 10**15 else ""
    console.print(f"size of the space: {size:,} recipes on {len(facts['axes'])} axes{about}", soft_wrap=True)
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
