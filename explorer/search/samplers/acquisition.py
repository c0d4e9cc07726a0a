"""Acquisition: the proposal that should raise the hypervolume most, where costs are known and accuracy is modelled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from explorer.search.frontier import non_dominated
from explorer.search.samplers.belief import Aim, Belief, Evidence
from explorer.search.samplers.domains import Domain, Points

__all__ = ["propose"]

Floats = npt.NDArray[np.float64]

_ROUNDS, _PARENTS, _DRAWN = 12, 48, 512
# covariances with what was measured that a proposal may take: parents are fewer where much was
_WORK, _LEAST_PARENTS = 2_000_000, 12
# how many candidates may share the first place, and by which share of its gain they may be behind
_TIED, _TIE = 8, 0.1


def propose(
    domain: Domain,
    evidence: Evidence,
    pending: Points,
    aim: Aim,
    rng: np.random.Generator,
    memo: MutableMapping[str, Any],
) -> Points | None:
    """Return a point (axes,) that is expected to raise the hypervolume most, None where none was found.

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
    belief = Belief.of(domain, evidence, aim, memo).supposing(pending)
    best = non_dominated(belief.front)
    belief = replace(belief, points=belief.points[best], front=belief.front[best])
    return _maximised(domain, belief.gain, belief.points, drawn, parents, rng)


def _maximised(
    domain: Domain,
    gain: Callable[[Points], Floats],
    front: Points,
    drawn: Points,
    parents: int,
    rng: np.random.Generator,
) -> Points | None:
    """Return an unseen point of the greatest gains that an evolution from the front and from drawn points finds.

    It is one of a few, taken at random, whose gains are next to the greatest.
    """
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
    first = list(itertools.islice((i for i in order if not domain.seen(pool[i])), _TIED))
    # the model cannot tell them apart, and seeds should not agree on one
    tied = [i for i in first if values[i] >= (1 - _TIE) * values[first[0]]]
    return pool[rng.choice(tied)] if tied else None


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
