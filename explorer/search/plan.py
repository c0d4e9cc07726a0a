"""Plan: how a space is searched, which the command and the Python entrance hand to one engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from explorer.search.drawing import Drawing
from explorer.search.ladder import Ladder, checked_ladder
from explorer.search.metrics import checked_objectives
from explorer.utils.checks import checked_number
from explorer.utils.conf import options_of
from spaces import PruningError, unknown

if TYPE_CHECKING:
    # Optuna takes half a second to import
    from optuna.samplers import BaseSampler

    from explorer.search.samplers import Observations

__all__ = ["Plan"]


@dataclass(frozen=True)
class Plan:
    """How a space is searched.

    Parameters
    ----------
    objectives
        Keys of `explorer.search.metrics.OBJECTIVES`, minimised.
    sampler, options
        As `explorer.search.samplers.make_sampler` takes them.
    seed
        Of the sampler.
    ladder
        Uniform ratios evaluated first: how many, evenly spaced, or which.
    eta
        The most promising 1/`eta` of each rung are evaluated at the next.
    trials, timeout
        Recipes to evaluate, and minutes after which no further evaluation begins; None for no limit.
    warm_start
        What earlier studies of the network measured, for a sampler that can begin with it.
    drawing
        How the recipes are drawn where they are a population: then no sampler is asked, and `ladder` is 0.

    Raises
    ------
    PruningError
        If a name is unknown, or a value is out of range.
    """

    objectives: Sequence[str]
    sampler: str | BaseSampler | Callable[..., BaseSampler]
    options: Mapping[str, Any]
    seed: int
    ladder: Ladder
    eta: float
    trials: int
    timeout: float | None
    warm_start: Observations | None = None
    drawing: Drawing | None = None

    def __post_init__(self) -> None:
        checked_objectives(self.objectives)
        # a function's import path has a dot; it is imported where the sampler is made
        if isinstance(self.sampler, str) and "." not in self.sampler and self.sampler not in options_of("sampler"):
            raise unknown("sampler", self.sampler, options_of("sampler"))
        if not isinstance(self.options, Mapping):
            raise PruningError(f"sampler.options: {self.options!r}, allowed is a section of keys")
        checked_number("seed", self.seed, least=0)
        checked_ladder(self.ladder)
        checked_number("evaluator.eta", self.eta, least=1, whole=False, above=True)
        checked_number("trials", self.trials, least=1)
        checked_number("timeout", self.timeout, least=0, whole=False, optional=True)
