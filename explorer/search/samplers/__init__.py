"""Samplers: a table from name to a maker, called anew before every proposal.

A sampler is made from what is stored only, so that a study is a function of its trials: killed and resumed, it
proposes what it would have proposed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler

from explorer.search.samplers.asking import ask
from explorer.search.samplers.frontier_sampler import FrontierSampler, frontier
from explorer.search.samplers.parameters import Parameters
from explorer.search.samplers.past import Observations, Past
from explorer.search.samplers.sequence import RowSampler, exhaustive, qmc
from spaces import PruningError, first_line, unknown

__all__ = ["SAMPLERS", "FrontierSampler", "Observations", "Parameters", "Past", "RowSampler", "ask", "make_sampler"]


def _tpe(past: Past, **options: Any) -> BaseSampler:
    return optuna.samplers.TPESampler(seed=past.random_state, **options)


def _gp(past: Past, **options: Any) -> BaseSampler:
    return optuna.samplers.GPSampler(seed=past.random_state, **options)


def _nsga2(past: Past, **options: Any) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(seed=past.random_state, **options)


def _random(past: Past) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=past.random_state)


SAMPLERS: Mapping[str, Callable[..., BaseSampler]] = {
    "exhaustive": exhaustive,
    "frontier": frontier,
    "gp": _gp,
    "nsga2": _nsga2,
    "qmc": qmc,
    "random": _random,
    "tpe": _tpe,
}


def make_sampler(name: str, past: Past, options: Mapping[str, Any]) -> BaseSampler:
    """Return the sampler `name` for the next proposal after `past`.

    Raises
    ------
    PruningError
        If the name or an option is unknown to the sampler.
    """
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return SAMPLERS[name](past, **options)
        except (TypeError, ValueError) as error:
            raise PruningError(f"sampler.options: {name} takes no such options ({first_line(error)})") from None
