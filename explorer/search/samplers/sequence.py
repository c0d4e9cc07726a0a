"""Samplers that do not look at values: a low-discrepancy sequence, and every recipe in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from explorer.search.samplers.parameters import Parameters
from explorer.search.samplers.past import Past
from spaces import PruningSpace

__all__ = ["RowSampler", "exhaustive", "qmc"]

_BLOCK = 4096


class RowSampler(BaseSampler):
    """Proposes the row that `propose` returns."""

    def __init__(self, space: PruningSpace, propose: Callable[[], npt.NDArray]) -> None:
        self._parameters = Parameters(space)
        self._propose = propose

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._parameters.distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._parameters.of(self._propose())

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return RandomSampler(seed=0).sample_independent(study, trial, param_name, param_distribution)


def qmc(past: Past) -> BaseSampler:
    """Return a scrambled Sobol sequence (Joe and Kuo 2008) at position `past.proposed`."""

    def propose() -> npt.NDArray:
        from scipy.stats import qmc as sequences

        engine = sequences.Sobol(len(past.space.axes), rng=np.random.default_rng(past.seed))
        if past.proposed:
            engine.fast_forward(past.proposed)
        return past.space.canonical((engine.random(1) * np.array(past.space.shape)).astype(np.int16))[0]

    return RowSampler(past.space, propose)


def exhaustive(past: Past) -> BaseSampler:
    """Return the sampler of the first recipe inside the limits, in the order of the space, that is new."""

    def propose() -> npt.NDArray:
        # what came before was seen or is outside
        for start in range(past.memo.get("begin", 0), past.space.size, _BLOCK):
            rows = past.space.rows(start, min(past.space.size, start + _BLOCK))
            for row in rows[past.space.inside(rows, past.limits)]:
                if row.tobytes() not in past.seen:
                    return row
            past.memo["begin"] = start + _BLOCK
        return past.space.unrank(0)

    return RowSampler(past.space, propose)
