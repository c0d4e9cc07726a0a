"""The criteria: a table from name to source, needs and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from explorer.criteria import magnitude
from explorer.criteria.magnitude import Named
from explorer.criteria.subject import Subject

__all__ = ["CRITERIA", "Criterion"]

_AGGREGATION = ("norm", "normalizer", "reduction")


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
        From what is scored to the scores of every weight; None for a criterion that scores channels only.
    channels
        To the scores of every unit; None where they are aggregated from those of the weights.
    needs
        What must be computed from data: ``nothing``, ``activations`` or ``gradients``.
    norm
        How a channel's scores in one tensor become one number by default; see `Options`.
    options
        The options it has.
    """

    name: str
    source: str
    weights: Callable[[Subject], Named] | None = None
    channels: Callable[[Subject], dict[str, Tensor]] | None = None
    needs: str = "nothing"
    norm: str = "l1"
    options: tuple[str, ...] = _AGGREGATION

    @property
    def channels_only(self) -> bool:
        """Whether it says nothing of single weights, so that no pattern can be put by it."""
        return self.weights is None


CRITERIA: Mapping[str, Criterion] = {
    row.name: row
    for row in [
        Criterion("l1", "Li et al. 2017, arXiv 1608.08710", magnitude.l1),
        Criterion("l2", "Li et al. 2017, arXiv 1608.08710", magnitude.l2),
    ]
}
"""All criteria by name."""
