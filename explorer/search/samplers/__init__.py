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
from explorer.utils.instantiate import called, locate
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


def make_sampler(sampler: Any, past: Past, options: Mapping[str, Any]) -> BaseSampler:
    """Return the sampler for the next proposal after `past`.

    Parameters
    ----------
    sampler
        A key of `SAMPLERS`; an Optuna sampler, which is taken as it is; or a function, or its import path, that returns
        one for a ``seed`` and the options.
    past
        What is known of the study.
    options
        Of the sampler.

    Raises
    ------
    PruningError
        If the name or an option is unknown, or a function returns no sampler.

    Examples
    --------
    >>> import optuna
    >>> def genetic(seed: int, population_size: int = 10) -> optuna.samplers.BaseSampler:
    ...     return optuna.samplers.NSGAIIISampler(seed=seed, population_size=population_size)
    """
    if isinstance(sampler, BaseSampler):
        return sampler
    if callable(sampler) or (isinstance(sampler, str) and "." in sampler):
        factory = sampler if callable(sampler) else locate("sampler._target_", sampler)
        made = called("sampler", factory, {"seed": past.random_state, **options})
        if not isinstance(made, BaseSampler):
            raise PruningError(f"sampler: it gives a {type(made).__name__}, needed is an Optuna sampler")
        return made
    name = sampler
    if name not in SAMPLERS:
        raise unknown("sampler", name, SAMPLERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        try:
            return SAMPLERS[name](past, **options)
        except (TypeError, ValueError) as error:
            raise PruningError(f"sampler.options: {name} takes no such options ({first_line(error)})") from None
