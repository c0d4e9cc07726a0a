"""Asking a sampler for parameters before there is a trial, so that the trial is written once, with all of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from explorer.search.optuna_private import storage_of, with_storage

__all__ = ["ask"]

_NONE = -1


def ask(
    study: optuna.Study, sampler: BaseSampler, distributions: Mapping[str, BaseDistribution], number: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the parameters that a sampler proposes, and the attributes that it keeps with the trial.

    `optuna.Study.ask` writes a trial and then each of its parameters: a hundred writes in a large space.

    Parameters
    ----------
    study
        Not changed.
    sampler
        Any of Optuna's.
    distributions
        Of all parameters.
    number
        That the trial will probably have.
    """
    kept: dict[str, Any] = {}
    view = with_storage(study, _Aside(storage_of(study), kept))  # type: ignore[arg-type]
    view.sampler = sampler
    trial = FrozenTrial(
        number=number,
        trial_id=_NONE,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=datetime.now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
    )
    sampler.before_trial(view, trial)
    together = sampler.infer_relative_search_space(view, trial)
    params = sampler.sample_relative(view, trial, together)
    for name, distribution in distributions.items():
        if name in params:
            value = params[name]
        elif distribution.single():
            value = distribution.to_external_repr(_only(distribution))
        else:
            value = sampler.sample_independent(view, trial, name, distribution)
        trial.params[name] = value
        trial.distributions[name] = distribution
    return trial.params, kept


def _only(distribution: BaseDistribution) -> float:
    """Return the one value of a distribution as it is stored."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return 0.0
    return float(distribution.low)  # type: ignore[attr-defined]


class _Aside:
    """A storage that keeps the attributes of the trial that is not there yet."""

    def __init__(self, storage: optuna.storages.BaseStorage, kept: dict[str, Any]) -> None:
        self._storage = storage
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id == _NONE:
            self._kept[key] = value
        else:
            self._storage.set_trial_system_attr(trial_id, key, value)
