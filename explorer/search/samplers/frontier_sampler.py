"""FrontierSampler: for the search of a pruning space, and for anybody's Optuna study."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from explorer.search.samplers.acquisition import propose
from explorer.search.samplers.belief import Aim, Evidence
from explorer.search.samplers.distributions import Distributions
from explorer.search.samplers.domains import Points, Recipes
from explorer.search.samplers.past import Past
from explorer.search.samplers.sequence import RowSampler

__all__ = ["FrontierSampler", "frontier"]

_STARTUP = 8


def frontier(past: Past) -> BaseSampler:
    """Return the sampler of the recipe of a past's space that should raise the hypervolume most."""

    aim = Aim.of(past.objectives, past.reference)

    def chosen() -> npt.NDArray[np.int16]:
        rng = np.random.default_rng(past.random_state)
        row = propose(Recipes(past), Evidence.of(past), past.pending, aim, rng, past.memo)
        # the search knows what to do with what was seen before
        return past.space.unrank(0) if row is None else row

    return RowSampler(past.space, chosen)


class FrontierSampler(BaseSampler):
    """Seeks the frontier between a measured objective and others that are known before anything is evaluated.

    The first objective of the study is measured: a Gaussian process models its logarithm (itself, where it can be
    negative). The last ones are costs, which `cost` computes; any between them are measured too, and taken at what is
    predicted of them. Proposed is what should raise the hypervolume most, and nothing twice. Where a trial has a user
    attribute ``error_se``, the standard error of its first value, that is taken into account; trials that run in
    parallel are taken to give what is expected of them.

    Parameters
    ----------
    cost
        From a trial's parameters to its cost, or the list of its costs, in the order of the study's objectives.
    constraints
        From a trial's parameters to numbers that must not be above 0; nothing else is proposed.
    reference
        The reference point of the hypervolume; by default the worst values so far.
    startup
        How many trials are random before the first is modelled.
    seed
        Of the random numbers; trials that run in parallel make a study depend on their order all the same.

    Examples
    --------
    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> def objective(trial):
    ...     width, depth = trial.suggest_int("width", 1, 64), trial.suggest_int("depth", 1, 8)
    ...     return 1 / width + 1 / depth, width * depth  # in earnest the first is trained and measured
    >>> sampler = FrontierSampler(lambda params: params["width"] * params["depth"], seed=0)
    >>> study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
    >>> study.optimize(objective, n_trials=12)
    >>> len({tuple(trial.params.values()) for trial in study.trials})
    12
    """

    def __init__(
        self,
        cost: Callable[[dict[str, Any]], float | Sequence[float]],
        *,
        constraints: Callable[[dict[str, Any]], Sequence[float]] | None = None,
        reference: Sequence[float] | None = None,
        startup: int = _STARTUP,
        seed: int | None = None,
    ) -> None:
        self._cost, self._constraints, self._reference = cost, constraints, reference
        self._startup = startup
        self._independent = RandomSampler(seed=seed)
        self._seed = int(np.random.default_rng().integers(2**32)) if seed is None else seed
        self._memo: dict[str, Any] = {}
        self._lock = threading.Lock()
        # what was proposed for trials whose parameters may not be stored yet
        self._asked: dict[int, tuple[tuple[str, ...], Points]] = {}

    def reseed_rng(self) -> None:
        self._independent.reseed_rng()
        self._seed = int(np.random.default_rng().integers(2**32))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len(done) < max(1, self._startup):
            return {}
        return {name: one for name, one in intersection_search_space(done).items() if not one.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if not search_space:
            return {}
        trials = [one for one in study.get_trials(deepcopy=False) if one.number != trial.number]
        with self._lock:
            domain = Distributions(search_space, self._cost, self._constraints)
            evidence = self._evidence(study, domain, trials)
            pending = self._pending(domain, trials)
            codes = [domain.point(one.params)[None] for one in trials if domain.has(one.params)]
            domain.remember(np.concatenate([*codes, pending]))
            rng = np.random.default_rng([self._seed, trial.number])
            aim = self._aim(evidence, domain)
            found = propose(domain, evidence, pending, aim, rng, self._memo)
            if found is None:
                drawn = domain.draw(1, rng)
                if not len(drawn):
                    return {}
                found = drawn[0]
            self._asked[trial.number] = tuple(search_space), found
        return domain.params(found)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._asked.pop(trial.number, None)

    def _evidence(self, study: Study, domain: Distributions, trials: Sequence[FrozenTrial]) -> Evidence:
        done = [one for one in trials if one.state == TrialState.COMPLETE and domain.has(one.params)]
        done = [one for one in done if np.isfinite(one.values).all()]
        signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in study.directions]
        return Evidence(
            np.array([domain.point(one.params) for one in done]).reshape(len(done), len(domain.names)),
            np.array([one.values for one in done], dtype=float).reshape(len(done), len(signs)) * signs,
            np.array([one.user_attrs.get("error_se", np.nan) for one in done], dtype=float),
            np.zeros(len(done), dtype=np.intp),
            np.ones(len(done), dtype=bool),
        )

    def _pending(self, domain: Distributions, trials: Sequence[FrozenTrial]) -> Points:
        found = []
        for one in trials:
            if one.state == TrialState.RUNNING:
                names, point = self._asked.get(one.number, ((), np.empty(0)))
                if domain.has(one.params):
                    found.append(domain.point(one.params))
                elif names == domain.names:
                    found.append(point)
        return np.array(found).reshape(len(found), len(domain.names))

    def _aim(self, evidence: Evidence, domain: Distributions) -> Aim:
        values = evidence.values
        objectives, costs = values.shape[1], domain.costs(evidence.points).shape[1]
        if not 0 < costs < objectives:
            raise ValueError(f"cost returns {costs} values for a study of {objectives} objectives, at most all but one")
        reference = values.max(0) if self._reference is None else np.asarray(self._reference, dtype=float)
        return Aim(0, tuple(range(objectives - costs, objectives)), reference)
