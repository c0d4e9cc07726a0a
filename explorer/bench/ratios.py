"""Ratios that differ from block to block of a language model, found by a search on other text of validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from explorer.data import Batch
from explorer.evaluation.budgets import LatencyLimit
from explorer.problem import Problem
from explorer.pruning.criteria import Options
from explorer.runs.config import RESULTS
from explorer.runs.setup import Setup
from explorer.search.plan import Plan
from explorer.search.storage import open_study
from spaces import Budget, Network, PruningSpace, Recipe, costs_of

__all__ = ["searched", "section"]

# kept of every output's weights in a block, and on average
_RATIOS, _MEAN = [0.7, 0.6, 0.5, 0.4, 0.3], 0.5


def section(network: Network) -> dict[str, Any]:
    """Return the space of one ratio a block, as in a space file."""
    choice = {"granularity": "element", "per": "output", "ratios": _RATIOS}
    return {
        "weights": [{"match": "*.[0-9]*.*", "choices": [choice]}],
        "tie": [f"{block.name}.*" for block in network.blocks],
    }


def searched(setup: Setup, model: nn.Module, network: Network, calibration: Sequence[Batch], trials: int) -> Recipe:
    """Return the best by validation of so many recipes that keep no more parameters than one ratio everywhere.

    Parameters
    ----------
    setup
        Whose validation sequences recipes are measured on, their weights inherited.
    model, network
        The dense network, traced.
    calibration
        What Wanda scores weights by, and what the sampler tries choices on.
    trials
        How many are evaluated, that of one ratio first.
    """
    space = PruningSpace.from_config(network, section(network))
    uniform = [axis.ratios.index(_MEAN) for axis in space.axes]
    ratio = costs_of(network, space.recipe(uniform))["params"] / space.dense["params"]
    plan = Plan(
        objectives=["error"],
        sampler="frontier",
        options={},
        seed=0,
        ladder=[_MEAN],
        eta=3,
        trials=trials,
        timeout=None,
    )
    problem = Problem.of(
        model,
        space,
        calibration,
        list(setup.batches("validation")),
        limits=Budget.parse({"params": [0, ratio + 1e-9]}),
        latency=LatencyLimit(),
        objectives=plan.objectives,
        criterion=Options.of("wanda"),
        task=setup.task,
        cache=RESULTS / ".cache",
    )
    search = problem.search(open_study(None, "ratios", plan.objectives), plan)
    search.run(trials)
    done = [record for record in search.records if "error" in record.metrics]
    return space.recipe(min(done, key=lambda record: record.metrics["error"]).row)
