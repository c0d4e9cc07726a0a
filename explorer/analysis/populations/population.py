"""Population: the evaluated recipes of one sample, checked to be one sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from spaces import PruningError, first_line

__all__ = ["LEAST", "Population", "check_comparable", "populations_of", "read_populations"]

LEAST = 32
"""Recipes that a population needs for a claim; below, questions are answered `undecided`."""

_NEEDED = ("error", "flops", "params")
# what all recipes of a population share
_CIRCUMSTANCES = ("network", "protocol", "seed", "space", "regime")


@dataclass(frozen=True, eq=False)
class Population:
    """Recipes of one space, drawn without looking at errors and evaluated in one way.

    Parameters
    ----------
    name
        What tables and plots call it.
    table
        One row a recipe with a finite error: ``error``, ``flops`` (multiply-adds) and ``params``; where the dense
        network is known ``rho`` (FLOPs per parameter, relative to dense), else ``mcb`` (the same, absolute); and
        whatever else there is of recipes, such as the ratios of axes.
    circumstances
        What all recipes share, as far as it is known: ``network``, ``protocol`` (how they were evaluated), ``seed``,
        ``space`` and ``regime`` (the share of the FLOPs).
    failed
        How many recipes of the sample have no error.

    Examples
    --------
    >>> table = pd.DataFrame({"error": [0.2, 0.1], "flops": [50, 60], "params": [10, 20]})
    >>> Population.of(table, "mine", dense={"flops": 100, "params": 20}).table["rho"].tolist()
    [1.0, 0.6]
    """

    name: str
    table: pd.DataFrame
    circumstances: Mapping[str, object] = field(default_factory=dict)
    failed: int = 0

    @classmethod
    def of(
        cls, table: pd.DataFrame, name: str = "population", *, dense: Mapping[str, float] | None = None
    ) -> Population:
        """Return the population of a table of recipes.

        Parameters
        ----------
        table
            At least ``error``, ``flops`` and ``params``. Rows whose ``state`` is not ``COMPLETE``, or whose error is
            no finite number, are failed evaluations.
        name
            What the population is called.
        dense
            FLOPs and parameters of the dense network, where the table has no ``rho``.

        Raises
        ------
        PruningError
            If a column is missing or is no number, nothing was evaluated, or networks, protocols, seeds, spaces or
            regimes are mixed.
        """
        for column in _NEEDED:
            if column not in table:
                raise PruningError(
                    f"{name}: no column {column!r}, allowed is a table with {', '.join(_NEEDED)}; "
                    f"it has {', '.join(map(str, table.columns[:12]))}"
                )
            if not pd.api.types.is_numeric_dtype(table[column]):
                raise PruningError(f"{name}: column {column!r} holds {table[column].iloc[0]!r}, allowed are numbers")
        shared = {}
        for column in _CIRCUMSTANCES:
            if column in table and len(found := table[column].dropna().unique()):
                if len(found) > 1:
                    listed = ", ".join(map(str, found[:4]))
                    raise PruningError(f"{name}: {column} is mixed up ({listed}), allowed is one a population")
                shared[column] = found[0].item() if isinstance(found[0], np.generic) else found[0]
        done = np.isfinite(table["error"]) & (table["state"] == "COMPLETE" if "state" in table else True)
        kept = table[done].reset_index(drop=True)
        if not len(kept):
            raise PruningError(f"{name}: none of its {len(table)} recipes has an error, allowed is one at least")
        if not (np.isfinite(kept[["flops", "params"]]) & (kept[["flops", "params"]] > 0)).all(axis=None):
            raise PruningError(f"{name}: flops and params must be above 0 in every row")
        kept = kept.assign(mcb=kept["flops"] / kept["params"])
        if dense is not None:
            kept["rho"] = kept["mcb"] / (dense["flops"] / dense["params"])
        return cls(name, kept, shared, len(table) - len(kept))

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"<Population {self.name}: {len(self)} recipes, {self.failed} failed>"

    @property
    def errors(self) -> npt.NDArray[np.float64]:
        """The errors (n,)."""
        return self.table["error"].to_numpy(dtype=float)

    @property
    def flops(self) -> npt.NDArray[np.float64]:
        """The multiply-adds (n,)."""
        return self.table["flops"].to_numpy(dtype=float)

    @property
    def ratio(self) -> str:
        """The column of the FLOPs-to-parameter ratio: ``rho``, or ``mcb`` where the dense network is not known."""
        return "rho" if "rho" in self.table else "mcb"


def populations_of(table: pd.DataFrame, *, dense: Mapping[str, float] | None = None) -> list[Population]:
    """Return the populations of a table, one for each value of its column ``population``, in order of appearance.

    A table without that column is one population.
    """
    if "population" not in table:
        return [Population.of(table, dense=dense)]
    return [
        Population.of(part, str(name), dense=dense)
        for name, part in table.groupby("population", sort=False, dropna=False)
    ]


def read_populations(path: str | Path, *, dense: Mapping[str, float] | None = None) -> list[Population]:
    """Return the populations of a csv file, see `populations_of`.

    Raises
    ------
    PruningError
        If the file can't be read as a table, or the table holds no populations.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise PruningError(f"population: {str(path)!r} can't be read ({first_line(error)})") from None
    return populations_of(table, dense=dense)


def check_comparable(populations: Sequence[Population], shared: Sequence[str], *, equal: bool = True) -> None:
    """Raise a PruningError if populations can't be compared.

    Parameters
    ----------
    populations
        Two at least, with different names.
    shared
        Which of the circumstances must be the same in all of them, as far as they are known.
    equal
        Whether all must hold equally many recipes, failed ones included.
    """
    if len(populations) < 2:
        raise PruningError(f"populations: {len(populations)} given, a comparison needs two at least")
    first, *others = populations
    names = [one.name for one in populations]
    if twice := [name for name in names if names.count(name) > 1]:
        raise PruningError(f"populations: {twice[0]!r} is the name of two, allowed are different names")
    for other in others:
        for what in shared:
            mine, theirs = first.circumstances.get(what), other.circumstances.get(what)
            if mine != theirs:
                raise PruningError(
                    f"populations: {what} is {mine} in {first.name} and {theirs} in {other.name}, "
                    "allowed is the same in all that are compared"
                )
        if equal and len(first) + first.failed != len(other) + other.failed:
            raise PruningError(
                f"populations: {len(first) + first.failed} recipes in {first.name} and {len(other) + other.failed} in "
                f"{other.name}, allowed are equally many"
            )
