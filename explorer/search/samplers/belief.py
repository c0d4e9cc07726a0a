"""Belief: the objectives of recipes at the last rung, as far as costs are known and the evidence says."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.search.samplers.domains import Domain, Points
from explorer.search.samplers.gp import Inputs, Observed, Process, fit
from explorer.search.samplers.improvement import Below, expected_improvement, lognormal_below, normal_below
from explorer.search.samplers.past import Past
from spaces import COSTS, PruningError

__all__ = ["Aim", "Belief", "Evidence"]

Floats = npt.NDArray[np.float64]

_FITS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
_FITTED, _TRAINED, _BLOCK = 200, 1000, 100


@dataclass(frozen=True)
class Evidence:
    """What was measured, one entry a measurement.

    Attributes
    ----------
    points
        (n, axes).
    values
        (n, objectives), minimised.
    deviation
        (n,), the standard error of the objective that is modelled; NaN where it is unknown.
    group
        (n,), 0 where the frontier is sought; other rungs and studies are further away.
    own
        (n,), whether it is of this study.
    """

    points: Points
    values: Floats
    deviation: Floats
    group: npt.NDArray[np.intp]
    own: npt.NDArray[np.bool_]

    def __getitem__(self, chosen: slice) -> Evidence:
        return Evidence(
            self.points[chosen], self.values[chosen], self.deviation[chosen], self.group[chosen], self.own[chosen]
        )

    @classmethod
    def of(cls, past: Past) -> Evidence:
        """Return the evidence in a past: that of earlier studies first, and furthest away."""
        before, own = past.warm_start, past.observed
        parts = [(before, past.rungs - before.rungs), (own, past.rungs - 1 - own.rungs)]
        return cls(
            np.concatenate([seen.rows for seen, _ in parts]),
            np.concatenate([seen.values for seen, _ in parts]),
            np.concatenate([seen.error_se for seen, _ in parts]),
            np.concatenate([group for _, group in parts]),
            np.repeat([False, True], [len(before.rows), len(own.rows)]),
        )


@dataclass(frozen=True)
class Aim:
    """What is minimised: which objective is modelled, which are counted, and the reference of the hypervolume."""

    modelled: int
    counted: tuple[int, ...]
    reference: Floats

    @classmethod
    def of(cls, objectives: Sequence[str], reference: Sequence[float]) -> Aim:
        """Return the aim of a search with objectives out of `explorer.search.metrics.OBJECTIVES`.

        Raises
        ------
        PruningError
            If nothing is measured.
        """
        counted = tuple(i for i, name in enumerate(objectives) if name in COSTS)
        measured = [i for i in range(len(objectives)) if i not in counted]
        if not measured:
            raise PruningError(f"sampler: frontier needs an objective that is measured, such as error; {objectives=}")
        # of what is measured latency is the surest
        modelled = min(measured, key=lambda i: objectives[i] == "latency")
        return cls(modelled, counted, np.asarray(reference, dtype=float))

    @property
    def others(self) -> list[int]:
        """The objectives that are measured besides; they are predicted, and taken at their mean."""
        return [i for i in range(len(self.reference)) if i != self.modelled and i not in self.counted]

    @property
    def order(self) -> list[int]:
        """All objectives, the modelled one first."""
        return [self.modelled, *(i for i in range(len(self.reference)) if i != self.modelled)]


@dataclass(frozen=True)
class Curve:
    """An objective as a Gaussian process sees it: its logarithm, or itself where it is not positive."""

    process: Process
    logarithmic: bool

    @classmethod
    def of(
        cls, domain: Domain, evidence: Evidence, column: int, deviation: Floats, thetas: MutableMapping[Any, Floats]
    ) -> Curve:
        """Return the curve of an objective; its parameters are fitted at fixed numbers of measurements."""
        values = evidence.values[:, column]
        logarithmic = bool((values >= 0).all() and (values > 0).any())
        spread = np.nan_to_num(deviation, nan=0.0)
        if logarithmic:
            # none measured is none in so many: below half of the least that was seen all look alike
            values = np.maximum(values, 0.5 * values[values > 0].min())
            spread = np.minimum(spread / values, 1.0)
            values = np.log(values)
        inputs = Inputs(domain.strong(evidence.points), domain.weak(evidence.points), evidence.group)
        data = Observed(inputs, values, spread**2)
        own = np.flatnonzero(evidence.own)
        count = max([size for size in _FITS if size <= len(own)], default=len(own))
        part = np.concatenate([_spread(np.flatnonzero(~evidence.own)), _spread(own[:count])])
        fitted = Observed(inputs[part], data.values[part], data.variance[part])
        digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in _arrays(fitted))).digest()
        if digest not in thetas:
            thetas[digest] = fit(fitted)
        return cls(Process(data, thetas[digest]), logarithmic)

    def __call__(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Return mean and deviation (n,), of the logarithm where that is modelled."""
        return self.process(inputs)

    def middle(self, inputs: Inputs) -> Floats:
        """Return the medians (n,)."""
        mean, _ = self.process(inputs)
        return np.exp(mean) if self.logarithmic else mean

    def below(self, inputs: Inputs) -> Below:
        """Return the partial expectations of the values at some inputs."""
        return (lognormal_below if self.logarithmic else normal_below)(*self.process(inputs))


def _spread(places: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Return as many of the places as parameters are fitted to, evenly."""
    return places[np.unique(np.linspace(0, len(places) - 1, min(len(places), _FITTED)).astype(int))]


def _arrays(data: Observed) -> list[Any]:
    return [data.inputs.strong, data.inputs.weak, data.inputs.group, data.values, data.variance]


@dataclass(frozen=True)
class Belief:
    """The objectives of points at the last rung: costs are exact, the modelled one is a distribution.

    Attributes
    ----------
    domain, aim
        What can be proposed, and what is minimised.
    curve, others
        The modelled objective, and those that are measured besides.
    group
        The last rung that has values, as `Evidence` counts them.
    points, front
        (m, axes) and (m, objectives) in `Aim.order`: what was measured there, or is supposed to be.
    """

    domain: Domain
    aim: Aim
    curve: Curve
    others: tuple[Curve, ...]
    group: int
    points: Points
    front: Floats

    @classmethod
    def of(cls, domain: Domain, evidence: Evidence, aim: Aim, memo: MutableMapping[str, Any]) -> Belief:
        """Return the belief after some evidence, one measurement at least.

        `memo` keeps the parameters of kernels that were fitted before; they are a function of the evidence.
        """
        evidence = _latest(evidence)
        thetas = memo.setdefault("thetas", {})
        unknown = np.full(len(evidence.points), np.nan)
        others = tuple(Curve.of(domain, evidence, column, unknown, thetas) for column in aim.others)
        curve = Curve.of(domain, evidence, aim.modelled, evidence.deviation, thetas)
        own = evidence.group[evidence.own]
        # where the last rung has no values yet, that before it is looked at
        group = int(own.min() if len(own) else evidence.group.min())
        here = evidence.own & (evidence.group == group)
        return cls(domain, aim, curve, others, group, evidence.points[here], evidence.values[here][:, aim.order])

    def supposing(self, points: Points) -> Belief:
        """Return the belief as if the expected values of some points had been measured, for parallel proposals."""
        if not len(points):
            return self
        inputs = self._inputs(points)
        mean, _ = self.curve(inputs)
        values = np.column_stack([self.curve.middle(inputs), self._known(points, inputs)])
        return replace(
            self,
            curve=Curve(self.curve.process.with_values(inputs, mean), self.curve.logarithmic),
            points=np.concatenate([self.points, points]),
            front=np.concatenate([self.front, values]),
        )

    def middle(self, points: Points) -> Floats:
        """Return the medians (n, objectives) of points, in the order of the study's objectives."""
        inputs = self._inputs(points)
        values = np.empty((len(points), len(self.aim.order)))
        values[:, self.aim.order] = np.column_stack([self.curve.middle(inputs), self._known(points, inputs)])
        return values

    def gain(self, points: Points) -> Floats:
        """Return by how much each of the points (n,) is expected to raise the hypervolume of the front."""
        inputs = self._inputs(points)
        reference = self.aim.reference[self.aim.order]
        return expected_improvement(self.curve.below(inputs), self._known(points, inputs), self.front, reference)

    def _inputs(self, points: Points) -> Inputs:
        return Inputs(self.domain.strong(points), self.domain.weak(points), np.full(len(points), self.group))

    def _known(self, points: Points, inputs: Inputs) -> Floats:
        """Return (n, objectives - 1), all objectives but the modelled one, in `Aim.order`."""
        values = np.empty((len(points), len(self.aim.reference)))
        values[:, list(self.aim.counted)] = self.domain.costs(points)
        for column, other in zip(self.aim.others, self.others, strict=True):
            values[:, column] = other.middle(inputs)
        return values[:, self.aim.order[1:]]


def _latest(evidence: Evidence) -> Evidence:
    """Return as much of the evidence as a process is made of; the oldest goes in blocks, so that fits can be kept."""
    surplus = max(0, len(evidence.points) - _TRAINED)
    return evidence[-(-surplus // _BLOCK) * _BLOCK :]
