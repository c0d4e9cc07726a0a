"""Warm start: measurements of other runs of the same network, for a sampler to begin with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from explorer.analysis.run_folder import RunFolder
from explorer.analysis.tables import observations
from explorer.runs.identity import differences
from explorer.search.samplers import Observations
from spaces import PruningError, PruningSpace

__all__ = ["measured_before"]

# what an error depends on besides the recipe; budgets, seeds, samplers and spaces may differ
_SAME = ("model", "data", "task", "criterion", "evaluator", "finetuning", "supernet", "training")


def measured_before(
    folders: Sequence[Path],
    space: PruningSpace,
    objectives: Sequence[str],
    *,
    identity: Mapping[str, Any],
    network: str,
    data: str,
) -> Observations:
    """Return the measurements of the runs in `folders` at their first rung, of recipes that `space` has too.

    Parameters
    ----------
    folders
        Of runs.
    space, objectives
        Of the study that begins with them.
    identity, network, data
        Of its configuration, its network and its data: the parts that an error depends on have to be the same there.

    Raises
    ------
    PruningError
        If a folder holds no run, or one of another network, data, criterion or evaluator.
    """
    found = [Observations.none(len(space.axes), len(objectives))]
    for folder in folders:
        run = RunFolder(folder)
        config, trials = run.config(), run.trials()
        if config is None or trials is None:
            damaged = "config.yaml" if config is None else "trials.parquet"
            raise PruningError(
                f"sampler.warm_start: {str(folder)!r} holds no run to begin with "
                f"({damaged} is not there or can't be read)"
            )
        there = {key: config["identity"].get(key) for key in _SAME}
        there |= {"facts": config["facts"]["network"], "images": config["facts"]["data_identity"]}
        here = {key: identity.get(key) for key in _SAME} | {"facts": network, "images": data}
        # the configuration that is stored went through JSON
        if lines := differences(there, json.loads(json.dumps(here, default=str))):
            raise PruningError(f"sampler.warm_start: {str(folder)!r} measured something else ({lines[0]})")
        found.append(observations(trials, space, objectives))
    return Observations.joined(found)
