"""Allocated recipes, evaluated as candidates are."""

from __future__ import annotations

import time
from typing import Any

from explorer.evaluation.evaluator import Inherited
from explorer.evaluation.finetuning import Finetuned
from explorer.pruning.allocation import Allocated
from explorer.search.jobs import Job
from spaces import PruningSpace, costs_of

__all__ = ["evaluated"]


def evaluated(evaluator: Inherited | Finetuned, space: PruningSpace, found: Allocated) -> dict[str, Any]:
    """Return the row of an allocated recipe: its target, asked and achieved, its metrics and every cost."""
    network, dense = space.network, space.dense
    begin = time.perf_counter()
    # at the last rung, as the best candidates
    last = len(evaluator.rungs) - 1
    metrics = evaluator(Job(-1, found.recipe, last, limited=False))
    row: dict[str, Any] = {
        "allocation": found.allocation,
        "family": found.family,
        "target": found.metric,
        "asked": found.asked,
        "achieved": found.achieved,
        "level": found.level,
        "state": "COMPLETE",
        **metrics,
    }
    if found.quartiles is not None:
        row |= {"achieved_q1": found.quartiles[0], "achieved_q3": found.quartiles[1]}
    costs = costs_of(network, found.recipe)
    for name, cost in costs.items():
        row |= {name: cost, f"{name}_ratio": cost / dense[name]}
    mcb = costs["flops"] / costs["params"]
    row |= {"mcb": mcb, "rho": mcb / (dense["flops"] / dense["params"]), "seconds": time.perf_counter() - begin}
    return row | {"granularity": found.recipe.granularity(network)}
