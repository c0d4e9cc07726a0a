"""The criteria: a table from name to source, needs and the names of functions; it needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CRITERIA", "CUSTOM", "Criterion"]

_AGGREGATION = ("norm", "normalizer", "reduction")
_DATA = (*_AGGREGATION, "batches", "seed")


@dataclass(frozen=True)
class Criterion:
    """A row of the table of criteria.

    Parameters
    ----------
    name
        What users call it.
    source
        Where it was proposed.
    weights
        ``module.function`` of this package: from a `Subject` to the scores of every weight; None for a criterion that
        scores channels only.
    channels
        Likewise to the scores of every unit; None where they are aggregated from those of the weights.
    needs
        What must be computed from data: ``nothing``, ``activations`` or ``gradients``.
    norm
        How a channel's scores in one tensor become one number by default; see `Options`.
    options
        The options it has.
    quadratic
        Whether scores go with the square of a weight.
    """

    name: str
    source: str
    weights: str | None = None
    channels: str | None = None
    needs: str = "nothing"
    norm: str = "l1"
    options: tuple[str, ...] = _AGGREGATION
    quadratic: bool = False

    @property
    def channels_only(self) -> bool:
        """Whether it says nothing of single weights, so that no pattern can be put by it."""
        return self.weights is None


CRITERIA: Mapping[str, Criterion] = {
    row.name: row
    for row in [
        Criterion("l1", "Li et al. 2017, arXiv 1608.08710", "magnitude.l1"),
        Criterion("l2", "Li et al. 2017, arXiv 1608.08710", "magnitude.l2", quadratic=True),
        Criterion("bn_scale", "Liu et al. 2017 (Network Slimming), arXiv 1708.06519", channels="filters.bn_scale"),
        Criterion("fpgm", "He et al. 2019, arXiv 1811.00250", channels="filters.fpgm", norm="l2"),
        Criterion(
            "taylor", "Molchanov et al. 2019, arXiv 1906.10771", "gradients.taylor", needs="gradients", options=_DATA
        ),
        Criterion(
            "obd",
            "LeCun et al. 1989 (Optimal Brain Damage)",
            "gradients.obd",
            needs="gradients",
            options=_DATA,
            quadratic=True,
        ),
        Criterion(
            "wanda", "Sun et al. 2024, arXiv 2306.11695", "activations.wanda", needs="activations", options=_DATA
        ),
        Criterion(
            "obs",
            "Hassibi and Stork 1993 (Optimal Brain Surgeon); Frantar and Alistarh 2022, arXiv 2208.11580",
            "obs.weights",
            "obs.channels",
            needs="activations",
            options=("batches", "seed"),
            quadratic=True,
        ),
        Criterion("random", "by chance", "chance.weights", "chance.channels", options=("seed",)),
    ]
}
"""All criteria by name."""

CUSTOM = Criterion("custom", "the user's", "custom.weights", needs="gradients", options=("_target_", *_DATA))
"""The row of a function of the user's, which may look at training batches and at the task."""
