"""Proposals: costs are known, accuracy is modelled, what is proposed should raise the hypervolume most."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.frontier import non_dominated
from explorer.samplers.domains import Domain, Points
from explorer.samplers.gp import Inputs, Observed, Process, fit
from explorer.samplers.improvement import Below, expected_improvement, lognormal_below, normal_below
from explorer.samplers.past import Past
from spaces import COSTS, PruningError

__all__ = ["Aim", "Evidence", "propose"]

Floats = npt.NDArray[np.float64]

_FITS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
_FITTED, _TRAINED = 200, 1000
_ROUNDS, _PARENTS, _DRAWN = 12, 48, 512


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
    """

    points: Points
    values: Floats
    deviation: Floats
    group: npt.NDArray[np.intp]

    @classmethod
    def of(cls, past: Past) -> Evidence:
        """Return what a past knows: earlier studies first, and furthest away."""
        parts = [(past.earlier, past.rungs - past.earlier.rungs), (past.observed, past.rungs - 1 - past.observed.rungs)]
        return cls(
            np.concatenate([seen.rows for seen, _ in parts]),
            np.concatenate([seen.values for seen, _ in parts]),
            np.concatenate([seen.error_se for seen, _ in parts]),
            np.concatenate([group for _, group in parts]),
        )


@dataclass(frozen=True)
class Aim:
    """What is minimised: which objective is modelled, which are counted, and the reference of the hypervolume."""

    modelled: int
    counted: tuple[int, ...]
    reference: Floats

    @classmethod
    def of(cls, objectives: Sequence[str], reference: Sequence[float]) -> Aim:
        """Return the aim of a search with objectives out of `explorer.metrics.OBJECTIVES`.

        Raises
        ------
        PruningError
            If nothing is measured.
        """
        counted = tuple(i for i, name in enumerate(objectives) if name in COSTS)
        measured = [i for i in range(len(objectives)) if i not in counted]
        if not measured:
            raise PruningError(f"sampler: frontier needs an objective that is measured, such as error; {objectives=}")
        return cls(measured[0], counted, np.asarray(reference, dtype=float))

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
        """Return what the evidence says of an objective, with parameters fitted at fixed numbers of measurements."""
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
        count = max([size for size in _FITS if size <= len(values)], default=len(values))
        part = np.unique(np.linspace(0, count - 1, min(count, _FITTED)).astype(int))
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


def _arrays(data: Observed) -> list[Any]:
    return [data.inputs.strong, data.inputs.weak, data.inputs.group, data.values, data.variance]


def propose(
    domain: Domain,
    evidence: Evidence,
    pending: Points,
    aim: Aim,
    rng: np.random.Generator,
    memo: MutableMapping[str, Any],
) -> Points | None:
    """Return the point (axes,) that is expected to raise the hypervolume most, None where none was found.

    Parameters
    ----------
    domain
        What can be proposed.
    evidence
        What was measured.
    pending
        (m, axes), under evaluation: taken to give what is expected of them.
    aim
        What is minimised.
    rng
        The source of randomness.
    memo
        Parameters of the kernels that were fitted before; a function of the evidence.
    """
    drawn = domain.draw(_DRAWN, rng)
    if not len(evidence.points):
        return next((point for point in drawn if not domain.seen(point)), None)
    evidence = _latest(evidence)
    thetas = memo.setdefault("thetas", {})
    unknown = np.full(len(evidence.points), np.nan)
    others = [Curve.of(domain, evidence, column, unknown, thetas) for column in aim.others]
    curve = Curve.of(domain, evidence, aim.modelled, evidence.deviation, thetas)

    def at(points: Points) -> Inputs:
        return Inputs(domain.strong(points), domain.weak(points), np.zeros(len(points), dtype=np.intp))

    def known(points: Points, inputs: Inputs) -> Floats:
        values = np.empty((len(points), len(aim.reference)))
        values[:, list(aim.counted)] = domain.costs(points)
        for column, other in zip(aim.others, others, strict=True):
            values[:, column] = other.middle(inputs)
        return values[:, aim.order[1:]]

    here = evidence.group == evidence.group.min()
    points, front = evidence.points[here], evidence.values[here][:, aim.order]
    if len(pending):
        inputs = at(pending)
        mean, _ = curve(inputs)
        lies = np.column_stack([curve.middle(inputs), known(pending, inputs)])
        points, front = np.concatenate([points, pending]), np.concatenate([front, lies])
        curve = Curve(curve.process.with_values(inputs, mean), curve.logarithmic)
    best = non_dominated(front)
    points, front = points[best], front[best]

    def gain(candidates: Points) -> Floats:
        inputs = at(candidates)
        return expected_improvement(curve.below(inputs), known(candidates, inputs), front, aim.reference[aim.order])

    return _maximised(domain, gain, np.concatenate([points, drawn]), len(points), rng)


def _maximised(
    domain: Domain, gain: Callable[[Points], Floats], starts: Points, good: int, rng: np.random.Generator
) -> Points | None:
    """Return the unseen point of greatest gain that an evolution from `starts` finds; the first `good` are parents."""
    met: set[bytes] = set()
    pool = _unmet(domain, starts, met)
    values = gain(pool)
    elite = starts[:good]
    for _ in range(_ROUNDS):
        parents = np.concatenate([pool[np.argsort(-values, kind="stable")[:_PARENTS]], elite])
        one, other = (parents[rng.integers(0, len(parents), 4 * _PARENTS)] for _ in range(2))
        mixed = np.where(rng.random(one.shape) < 0.5, one, other)
        near = domain.moved(np.repeat(parents, 4, 0), rng)
        children = np.concatenate([near, domain.moved(near, rng), domain.settled(mixed)])
        fresh = _unmet(domain, children, met)
        if len(fresh):
            pool, values = np.concatenate([pool, fresh]), np.concatenate([values, gain(fresh)])
    order = np.argsort(-values, kind="stable")
    return next((pool[i] for i in order if not domain.seen(pool[i])), None)


def _unmet(domain: Domain, points: Points, met: set[bytes]) -> Points:
    """Return the allowed points that were not met before, each once; they are `met` then."""
    new = []
    for i, point in enumerate(points):
        code = point.tobytes()
        if code not in met:
            met.add(code)
            new.append(i)
    found = points[new]
    return found[domain.allowed(found)]


def _latest(evidence: Evidence) -> Evidence:
    """Return as much of the evidence as a process is made of."""
    if len(evidence.points) <= _TRAINED:
        return evidence
    kept = slice(len(evidence.points) - _TRAINED, None)
    return Evidence(evidence.points[kept], evidence.values[kept], evidence.deviation[kept], evidence.group[kept])
