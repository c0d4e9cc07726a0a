"""The conjectures of Network Pruning Spaces as tests: supported, not supported or undecided, with numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from scipy import stats

from explorer.analysis.populations.adjusting import LEVEL, holm
from explorer.analysis.populations.optimum import Optimum, common_optimum_p
from explorer.analysis.populations.population import LEAST, Population, check_comparable

__all__ = ["ANSWERS", "conjecture_table"]

ANSWERS = ("supported", "not supported", "undecided")

# of the variance, and of the optimum: what is too little to matter
_LITTLE, _MARGIN = 0.05, 0.1
# of the winners in the nearest quarter: what is no more than chance makes of few winners
_CHANCE = 0.4

Answer = tuple[str, str]


def conjecture_table(populations: Sequence[Population], optima: Sequence[Optimum]) -> pd.DataFrame:
    """Return one row a question: conjecture, about, answer, p, p_corrected and words.

    Parameters
    ----------
    populations
        Of one protocol and seed.
    optima
        The `fit_optimum` of each.

    Returns
    -------
    pandas.DataFrame
        ``conjecture``: ``optimum`` (in a regime there is an optimal ratio), ``winners`` (the winners lie near it more
        often than chance), ``regime`` (the optimum moves with the regime) and ``network`` (it moves with the network).
        The last two are asked where there are several regimes of one network, or several networks in one regime.
        ``answer`` is one of `ANSWERS`; ``p_corrected`` is corrected for all questions of the table (Holm).

        *supported*: the corrected p-value is below .05 and, for an optimum, its interval is inside the population.
        *not supported*: the data speak against it. There is no optimum inside where error falls or rises all the way,
        or where the ratio explains less than 5 % of the variance with 97.5 % certainty; winners are no nearer than
        chance where with 97.5 % certainty fewer than two in five are in the nearest quarter; an optimum does not move
        where the intervals of all are within 10 % of each other. *undecided*: everything else.

    Raises
    ------
    PruningError
        If protocols or seeds are mixed.
    """
    if len(populations) > 1:
        check_comparable(populations, ("protocol", "seed"), equal=False)
    asked: list[tuple[str, str, float, Callable[[float], Answer]]] = []
    for one, found in zip(populations, optima, strict=True):
        asked.append(("optimum", one.name, found.p, _optimum(one, found)))
        asked.append(("winners", one.name, found.near_p, _winners(one, found)))
    for what, same in (("regime", "network"), ("network", "regime")):
        for members in _groups(populations, optima, what, same):
            names = ", ".join(one.name for one, _ in members)
            having = [(one, o) for one, o in members if o.inside and o.p < LEVEL and o.n >= LEAST]
            p = common_optimum_p([o for _, o in having]) if len(having) > 1 else np.nan
            asked.append((what, names, p, _moves(what, having, len(members))))
    corrected = holm([p for _, _, p, _ in asked])
    rows = []
    for (conjecture, about, p, answer), after in zip(asked, corrected, strict=True):
        verdict, words = answer(float(after))
        rows.append(
            {
                "conjecture": conjecture,
                "about": about,
                "answer": verdict,
                "p": p,
                "p_corrected": float(after),
                "words": f"{verdict}: {words}",
            }
        )
    return pd.DataFrame(rows)


def _few(population: Population) -> Answer | None:
    if len(population) >= LEAST:
        return None
    return "undecided", f"{population.name} has {len(population)} recipes, a claim needs {LEAST} at least"


def _optimum(population: Population, found: Optimum) -> Callable[[float], Answer]:
    """Return the answer to "is there an optimal ratio in this population", given the corrected p-value."""
    name, ratio = population.name, population.ratio
    held = f"the population holds {found.least:.3g} to {found.most:.3g}"
    gain = (
        f"a quadratic in log {ratio} predicts recipes it has not seen {found.gain:.0%} better than FLOPs alone "
        f"(p = {found.gain_p:.2g})"
    )

    def answer(p: float) -> Answer:
        if (few := _few(population)) is not None:
            return few
        best = f"in {name} error is least at {ratio} {found.value:.3g} (95 % interval {_interval(found)}; {held})"
        if p < LEVEL and found.inside:
            sides = f"error falls before it (p = {found.falls_p:.2g}) and rises behind it (p = {found.rises_p:.2g})"
            return "supported", f"{best}; {gain}, and {sides}; corrected p = {p:.2g}"
        if found.explained < _LITTLE:
            return (
                "not supported",
                f"in {name} {ratio} explains less than {found.explained:.1%} of the error's variance",
            )
        if (trend := _trend(found)) is not None:
            return "not supported", f"in {name} error {trend} with {ratio} all the way ({held}); {gain}"
        return "undecided", f"{best}; {gain}; that error falls before it and rises behind it: corrected p = {p:.2g}"

    return answer


def _trend(found: Optimum) -> str | None:
    """Return whether error surely ``falls`` or ``rises`` at both ends of the ratios, None where it does neither."""
    weights = []
    for end in (found.least, found.most):
        slope = np.zeros(len(found.fit.coefficients))
        slope[1:3] = 1, 2 * (np.log(end) - found.centre)
        weights.append(slope)
    for word, sign in (("falls", -1), ("rises", 1)):
        if all(found.fit.positive(sign * slope) < LEVEL for slope in weights):
            return word
    return None


def _winners(population: Population, found: Optimum) -> Callable[[float], Answer]:
    """Return the answer to "do winners lie near the optimum", given the corrected p-value."""

    def answer(p: float) -> Answer:
        if (few := _few(population)) is not None:
            return few
        told = (
            f"in {population.name} {found.near} of {found.winners} winners are in the quarter of the population "
            f"nearest to {population.ratio} {found.value:.3g}, by chance {found.winners / 4:.1f}; "
            f"permutation p = {found.near_p:.2g}, corrected {p:.2g}"
        )
        if p < LEVEL:
            return "supported", told
        most = stats.binomtest(found.near, found.winners).proportion_ci(method="exact").high
        return ("not supported" if most < _CHANCE else "undecided"), told

    return answer


def _moves(what: str, having: Sequence[tuple[Population, Optimum]], asked: int) -> Callable[[float], Answer]:
    """Return the answer to "does the optimum move with the regime or the network", given the corrected p-value."""

    def answer(p: float) -> Answer:
        if len(having) < 2:
            return "undecided", f"of {asked} populations {len(having)} have an optimum, two are needed to compare them"
        listed = "; ".join(
            f"{one.circumstances[what]}: {one.ratio} {o.value:.3g} ({_interval(o)})" for one, o in having
        )
        told = f"the optimum by {what} is {listed}; that all are one: corrected p = {p:.2g}"
        if p < LEVEL:
            return "supported", told
        near = max(o.high for _, o in having) / min(o.low for _, o in having) < 1 + _MARGIN
        return ("not supported" if near else "undecided"), told

    return answer


def _groups(
    populations: Sequence[Population], optima: Sequence[Optimum], what: str, same: str
) -> list[list[tuple[Population, Optimum]]]:
    """Return the populations that share `same` (and the space) and differ in `what`, several a group."""

    def key(member: tuple[Population, Optimum]) -> str:
        return repr([member[0].circumstances.get(name) for name in (same, "space")])

    known = [member for member in zip(populations, optima, strict=True) if what in member[0].circumstances]
    groups = [list(members) for _, members in groupby(sorted(known, key=key), key)]
    return [g for g in groups if len({one.circumstances[what] for one, _ in g}) > 1]


def _interval(found: Optimum) -> str:
    """Return the interval in words; what lies beyond the population is not known to any digit."""
    if found.low <= found.least and found.high >= found.most:
        return "not bounded by the data"
    low = f"below {found.least:.3g}" if found.low < found.least else f"{found.low:.3g}"
    return f"{low} to {f'above {found.most:.3g}' if found.high > found.most else f'{found.high:.3g}'}"
