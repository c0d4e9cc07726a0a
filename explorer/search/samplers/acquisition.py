"""Acquisition: the proposal that should raise the hypervolume most, where costs are known and accuracy is modelled."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.search.frontier import non_dominated
from explorer.search.samplers.domains import Domain, Points
from explorer.search.samplers.gp import Inputs, Observed, Process, fit
from explorer.search.samplers.improvement import Below, expected_improvement, lognormal_below, normal_below
from explorer.search.samplers.past import Past
from spaces import COSTS, PruningError

__all__ = ["Aim", "Evidence", "propose"]

Floats = npt.NDArray[np.float64]

_FITS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
_FITTED, _TRAINED, _BLOCK = 200, 1000, 100
_ROUNDS, _PARENTS, _DRAWN = 12, 48, 512
# covariances with what was measured that a proposal may take: parents are fewer where much was
_WORK, _LEAST_PARENTS = 2_000_000, 12


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
    parents = int(np.clip(_WORK // (10 * _ROUNDS * (1 + len(evidence.points))), _LEAST_PARENTS, _PARENTS))
    drawn = domain.draw(_DRAWN * parents // _PARENTS, rng)
    if not len(evidence.points):
        return next((point for point in drawn if not domain.seen(point)), None)
    evidence = _latest(evidence)
    thetas = memo.setdefault("thetas", {})
    unknown = np.full(len(evidence.points), np.nan)
    others = [Curve.of(domain, evidence, column, unknown, thetas) for column in aim.others]
    curve = Curve.of(domain, evidence, aim.modelled, evidence.deviation, thetas)

    own = evidence.group[evidence.own]
    # where the last rung has no values yet, that before it is looked at
    target = own.min() if len(own) else evidence.group.min()

    def at(points: Points) -> Inputs:
        return Inputs(domain.strong(points), domain.weak(points), np.full(len(points), target))

    def known(points: Points, inputs: Inputs) -> Floats:
        values = np.empty((len(points), len(aim.reference)))
        values[:, list(aim.counted)] = domain.costs(points)
        for column, other in zip(aim.others, others, strict=True):
            values[:, column] = other.middle(inputs)
        return values[:, aim.order[1:]]

    here = evidence.own & (evidence.group == target)
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

    return _maximised(domain, gain, points, drawn, parents, rng)


def _maximised(
    domain: Domain,
    gain: Callable[[Points], Floats],
    front: Points,
    drawn: Points,
    parents: int,
    rng: np.random.Generator,
) -> Points | None:
    """Return the unseen point of greatest gain that an evolution from the front and from drawn points finds."""
    met: set[bytes] = set()
    pool = _unmet(domain, np.concatenate([front, drawn]), met)
    if not len(pool):
        return None
    values = gain(pool)
    for _ in range(_ROUNDS):
        best = pool[np.argsort(-values, kind="stable")[:parents]]
        elite = np.concatenate([best, front[rng.permutation(len(front))[:parents]]])
        one, other = (elite[rng.integers(0, len(elite), 2 * parents)] for _ in range(2))
        mixed = np.where(rng.random(one.shape) < 0.5, one, other)
        near = domain.moved(np.concatenate([np.repeat(best, 3, 0), elite]), rng)
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
    """Return as much of the evidence as a process is made of; the oldest goes in blocks, so that fits can be kept."""
    surplus = max(0, len(evidence.points) - _TRAINED)
    return evidence[-(-surplus // _BLOCK) * _BLOCK :]
