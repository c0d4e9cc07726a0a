"""A sampler that says what it is told, and lets another believe that it has proposed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

__all__ = ["Fixed"]


class Fixed(BaseSampler):
    """Proposes given parameters.

    Parameters
    ----------
    params
        Of all distributions of the study.
    other
        Is asked all the same: some samplers, such as NSGA-II, count only trials that they were asked for.
    """

    def __init__(self, params: Mapping[str, Any], other: BaseSampler) -> None:
        self._params = dict(params)
        self._other = other

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._other.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._other.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._other.sample_relative(study, trial, search_space)
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._params[param_name]
