"""Everything that is told of populations, as named tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from explorer.analysis.populations.comparison import compare
from explorer.analysis.populations.conjectures import conjecture_table
from explorer.analysis.populations.correlation import rank_correlations
from explorer.analysis.populations.edf import edf_table, evaluations_table, summary_table
from explorer.analysis.populations.optimum import Optimum, fit_optimum, optimum_table
from explorer.analysis.populations.population import Population
from explorer.analysis.populations.structure import structure_table
from explorer.analysis.populations.winners import winner_bands
from spaces import PruningError

__all__ = ["PROXY", "Analysis", "analyse"]

PROXY = "proxy."
"""What names of columns begin with that hold a cheap score of the recipes."""


@dataclass(frozen=True, eq=False)
class Analysis:
    """The tables of populations.

    Attributes
    ----------
    populations
        What was analysed.
    optima
        Their `fit_optimum`; nothing for a population too small, or of one ratio.
    tables
        ``summary``, ``edf``, ``correlations``, ``bands``, and where there is something to tell ``optima``,
        ``conjectures``, ``comparisons``, ``evaluations``
        and ``proxies`` (rank correlations with error of the columns that begin with `PROXY`).
    skipped
        (what, why) of what could not be told.
    """

    populations: tuple[Population, ...]
    optima: Mapping[str, Optimum]
    tables: Mapping[str, pd.DataFrame]
    skipped: tuple[tuple[str, str], ...] = ()


def analyse(populations: Sequence[Population], seed: int = 0, *, stages: Mapping[str, str] | None = None) -> Analysis:
    """Return all tables of populations of one protocol and seed.

    Parameters
    ----------
    populations
        One or more; those of one network and regime are compared with each other.
    seed
        Of all resampling: the same tables again.
    stages
        See `structure_table`.

    Raises
    ------
    PruningError
        If populations that belong together can't be compared.
    """
    rng = np.random.default_rng(seed)
    structures = {one.name: structure_table(one, stages) for one in populations}
    tables = {
        "summary": summary_table(populations),
        "edf": pd.concat(
            [
                edf_table(group, rng, normalised=normalised).assign(normalised=normalised)
                for group in _alike(populations)
                for normalised in ((False, True) if len(group) > 1 else (False,))
            ],
            ignore_index=True,
        ),
        "correlations": _named(
            {
                one.name: rank_correlations(
                    structures[one.name].assign(error=one.errors), list(structures[one.name].columns)
                )
                for one in populations
            }
        ),
        "bands": _named({one.name: winner_bands(one, structures[one.name], rng) for one in populations}),
    }
    scored = {one.name: _proxies(one) for one in populations if any(map(_is_proxy, one.table))}
    if scored:
        tables["proxies"] = _named(scored)
    optima, skipped = {}, []
    for one in populations:
        try:
            optima[one.name] = fit_optimum(one, rng)
        except PruningError as error:
            skipped.append(("optimum", str(error)))
    told = [one for one in populations if one.name in optima]
    if told:
        found = [optima[one.name] for one in told]
        tables["optima"] = optimum_table(told, found, rng)
        tables["conjectures"] = conjecture_table(told, found)
    compared = [compare(group, rng) for group in _alike(populations) if len(group) > 1]
    if compared:
        tables["comparisons"] = pd.concat(compared, ignore_index=True)
        parts = [evaluations_table(group) for group in _alike(populations) if len(group) > 1]
        tables["evaluations"] = pd.concat(parts, ignore_index=True)
    return Analysis(tuple(populations), optima, tables, tuple(skipped))


def _is_proxy(column: object) -> bool:
    return str(column).startswith(PROXY)


def _proxies(population: Population) -> pd.DataFrame:
    """Return the rank correlations with error of the cheap scores, and of costs and ratio beside them."""
    names = [str(column) for column in population.table if _is_proxy(column)]
    table = population.table.rename(columns={name: name.removeprefix(PROXY) for name in names})
    columns = [name.removeprefix(PROXY) for name in names] + ["flops", "params", population.ratio]
    return rank_correlations(table, columns)


def _alike(populations: Sequence[Population]) -> list[list[Population]]:
    """Return the populations of one network and regime together, in order."""
    groups: dict[str, list[Population]] = {}
    for one in populations:
        groups.setdefault(repr([one.circumstances.get(name) for name in ("network", "regime")]), []).append(one)
    return list(groups.values())


def _named(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    frames = [table.assign(population=name) for name, table in tables.items()]
    joined = pd.concat(frames, ignore_index=True)
    return joined[["population", *(column for column in joined if column != "population")]]
