"""Populations of runs' folders: analysed, drawn, told in words, and their spaces refined."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from explorer.analysis.naming import model_name, space_name
from explorer.analysis.populations import PROXY, TITLES, Analysis, Population, analyse, findings, structure_bands
from explorer.analysis.run_folder import RunFolder
from explorer.search.metrics import METRICS, Metric
from explorer.utils.console import console
from explorer.utils.files import atomic
from spaces import Budget, PruningError, PruningSpace, Refinement, dense_costs, refine

__all__ = ["population_of", "write_populations"]

# what all populations that are compared share, besides network and seed
_PROTOCOL = ("evaluator", "criterion", "finetuning", "supernet", "data", "task")


def population_of(folder: RunFolder) -> Population | None:
    """Return the population of a run of `explore population`; None where files are missing or damaged.

    Raises
    ------
    PruningError
        If nothing was evaluated, or the run is no population.
    """
    config, trials, network = folder.config(), folder.trials(), folder.network()
    if config is None or trials is None or network is None:
        return None
    if "regime" not in config:
        raise PruningError(f"population: {str(folder)!r} is a search, which looks at errors; allowed are populations")
    shared = {key: config[key] for key in _PROTOCOL} | {"data_identity": config["facts"]["data_identity"]}
    digest = hashlib.sha256(json.dumps(shared, sort_keys=True, default=str).encode()).hexdigest()[:8]
    circumstances = {
        "network": model_name(config),
        "protocol": f"{config['evaluator']['name']}-{config['criterion']['name']}-{digest}",
        "seed": config["seed"],
        "space": space_name(config),
        "regime": config["regime"]["flops"],
    }
    mine = trials[trials["source"] == "population"]
    if (proxies := folder.proxies()) is not None:
        named = proxies.rename(columns=lambda name: name if name == "trial" else f"{PROXY}{name}")
        mine = mine.merge(named, on="trial", how="left")
    return Population.of(mine.assign(**circumstances), folder.name, dense=dense_costs(network))


def write_populations(folders: Sequence[RunFolder], target: Path) -> None:
    """Write what populations tell, and print it: tables, figures, findings in words, and refined spaces.

    Populations that can't be analysed together are said in one line, and their recipes are there all the same.

    Parameters
    ----------
    folders
        Of runs of `explore population`.
    target
        Gets ``population/`` with the tables, ``findings.md`` and in ``space/`` a refined space for each population, and
        its figures in ``plots/``.
    """
    found: dict[str, tuple[RunFolder, Population]] = {}
    for folder in folders:
        try:
            one = population_of(folder)
        except PruningError as error:
            console.print(f"[bold]warning[/bold]: {error}", soft_wrap=True)
            continue
        if one is not None:
            found[one.name] = folder, one
    if not found:
        return
    shorter = _short_names([one for _, one in found.values()])
    named = {name: (folder, one) for name, (folder, one) in zip(shorter, found.values(), strict=True)}
    populations = [Population(name, one.table, one.circumstances, one.failed) for name, (_, one) in named.items()]
    _table(target, "recipes", pd.concat([one.table.assign(population=one.name) for one in populations]))
    try:
        analysis = analyse(populations)
    except PruningError as error:
        console.print(f"[bold]warning[/bold]: {error}", soft_wrap=True)
        return
    for name, table in analysis.tables.items():
        _table(target, name, table)
    refined = {name: _refined(folder, target, analysis, name) for name, (folder, _) in named.items()}
    shown = _error(next(iter(named.values()))[0])
    text = findings(analysis, {name: one for name, one in refined.items() if one is not None}, shown)
    _text(target / "population" / "findings.md", text)
    for line in _told(analysis):
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    _write_plots(target, analysis, shown)
    console.print(f"populations: {target / 'population' / 'findings.md'}", soft_wrap=True)


def _short_names(populations: Sequence[Population]) -> list[str]:
    """Return names of what differs: the space and the regime, and the network where there are several."""
    known = [one.circumstances for one in populations]
    keys = ["space", "regime"]
    keys += [key for key in ("network", "seed", "protocol") if len({each.get(key) for each in known}) > 1]
    names = [" ".join(str(each[key]) for key in keys if each.get(key) is not None) for each in known]
    # of two draws of one space the folder tells them apart
    return [one.name if names.count(name) > 1 else name for name, one in zip(names, populations, strict=True)]


def _error(folder: RunFolder) -> Metric:
    summary = folder.summary()
    return METRICS["error"] if summary is None else Metric("error", **summary["error"])


def _refined(folder: RunFolder, target: Path, analysis: Analysis, name: str) -> Refinement | None:
    """Write the refined space of a population; None where nothing is left of it."""
    config, network = folder.config(), folder.network()
    if config is None or network is None:
        return None
    # resolved, as it was then
    space = PruningSpace.from_config(network, config["identity"]["space"])
    regime = config["regime"]
    budget = Budget() if regime["flops"] is None else Budget.regime(regime["flops"], regime["tol"])
    bands = structure_bands(analysis.tables["bands"], name, [axis.label for axis in space.axes])
    try:
        found = refine(space, bands, np.random.default_rng(0), budget=budget)
    except PruningError as error:
        console.print(f"[bold]warning[/bold]: {name}: {error}", soft_wrap=True)
        return None
    # an option of the group space, of a folder that --config-dir takes
    option = f"refined-{name.replace(' ', '-').replace('.', '_')}"
    _text(target / "population" / "space" / f"{option}.yaml", f"name: {option}\n{found.to_yaml()}")
    return found


def _told(analysis: Analysis) -> list[str]:
    """Return the sentences that are printed."""
    tables, asked = analysis.tables, dict[str, list[str]]()
    if "conjectures" in tables:
        for row in tables["conjectures"].to_dict("records"):
            # too few recipes are one answer to several questions
            asked.setdefault(str(row["words"]), []).append(TITLES[row["conjecture"]])
    sentences = [f"{' '.join(dict.fromkeys(questions))} {words}" for words, questions in asked.items()]
    sentences += map(str, tables["comparisons"]["words"] if "comparisons" in tables else [])
    return sentences + [f"{what}: {why}" for what, why in analysis.skipped]


def _write_plots(target: Path, analysis: Analysis, error: Metric) -> None:
    # drawing takes a second to import
    from explorer.analysis.plots import population_figures, save

    for name, figure in population_figures(analysis, error).items():
        path = save(figure, target / "plots" / f"population-{name}")[0]
        console.print(f"plot: {path}", soft_wrap=True)


def _table(target: Path, name: str, table: pd.DataFrame) -> None:
    path = target / "population" / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(text)
