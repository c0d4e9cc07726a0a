"""A small Gaussian process: Matern kernels over few good features and many weak ones, for some hundred observations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

__all__ = ["Inputs", "Observed", "Process", "fit"]

Floats = npt.NDArray[np.float64]

_JITTER = 1e-8
# of a group's own offset, in units of the values' standard deviation
_OFFSET = 1.0


@dataclass(frozen=True)
class Inputs:
    """What values are predicted from, one entry a point.

    Attributes
    ----------
    strong
        (n, f), few features that say much: each has a length scale of its own and a linear trend.
    weak
        (n, w), many that say little each: they share one length scale.
    group
        (n,), where the value comes from: 0 is what is asked for. Groups further apart have less in common.
    """

    strong: Floats
    weak: Floats
    group: npt.NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, chosen: npt.NDArray | slice) -> Inputs:
        return Inputs(self.strong[chosen], self.weak[chosen], self.group[chosen])


@dataclass(frozen=True)
class Observed:
    """Values (n,) at `inputs`, and the variance (n,) that each is known to have."""

    inputs: Inputs
    values: Floats
    variance: Floats


@dataclass(frozen=True)
class Scaler:
    """Shifts and scales that bring inputs and values to mean 0 and deviation 1."""

    strong: tuple[Floats, Floats]
    weak: tuple[Floats, float]
    values: tuple[float, float]

    @classmethod
    def of(cls, data: Observed) -> Scaler:
        strong, weak = data.inputs.strong, data.inputs.weak
        spread = strong.std(0)
        # what does not vary says nothing, and must not be blown up
        centred = weak - weak.mean(0)
        width = float(np.sqrt(np.square(centred).sum(1).mean())) or 1.0
        own = data.values[data.inputs.group == data.inputs.group.min()]
        own = own if len(own) > 1 else data.values
        deviation = float(own.std())
        return cls(
            (strong.mean(0), np.where(spread > 1e-12, spread, 1.0)),
            (weak.mean(0), width),
            (float(own.mean()), deviation if deviation > 1e-9 else 1.0),
        )

    def inputs(self, inputs: Inputs) -> Inputs:
        strong = (inputs.strong - self.strong[0]) / self.strong[1]
        return Inputs(strong, (inputs.weak - self.weak[0]) / self.weak[1], inputs.group)


class Kernel:
    """The kernel between two sets of points, and what its gradient needs."""

    def __init__(self, one: Inputs, other: Inputs) -> None:
        self._trend = one.strong @ other.strong.T
        self._strong = [np.square(np.subtract.outer(a, b)) for a, b in zip(one.strong.T, other.strong.T, strict=True)]
        squares = (-2 * one.weak) @ other.weak.T
        squares += np.square(one.weak).sum(1)[:, None]
        squares += np.square(other.weak).sum(1)
        self._weak = np.maximum(squares, 0, out=squares)
        apart = np.abs(np.subtract.outer(one.group, other.group))
        self._apart = apart.astype(float) if apart.any() else None

    def __call__(self, theta: Floats) -> Floats:
        """Return the covariances, without noise."""
        trend, strong, weak, _, length, tie = theta[:6]
        shared = _matern(self._distance(theta))
        shared *= np.exp(2 * strong)
        shared += np.exp(2 * trend) * self._trend
        rest = _matern(self._weak * np.exp(-2 * length))
        rest *= np.exp(2 * weak)
        shared += rest
        if self._apart is None:
            shared += _OFFSET**2
            return shared
        return shared * np.exp(-np.exp(tie) * self._apart) + _OFFSET**2 * (self._apart == 0)

    def gradients(self, theta: Floats) -> list[Floats | None]:
        """Return the derivative of the covariances by each parameter; None for that of the noise."""
        trend, strong, weak, _, length, tie = theta[:6]
        apart = np.zeros_like(self._weak) if self._apart is None else self._apart
        together = np.exp(-np.exp(tie) * apart)
        distance, scaled = self._distance(theta), self._weak * np.exp(-2 * length)
        parts = [
            np.exp(2 * trend) * self._trend,
            np.exp(2 * strong) * _matern(distance),
            np.exp(2 * weak) * _matern(scaled),
        ]
        slope = -2 * np.exp(2 * strong) * _slope(distance)
        out: list[Floats | None] = [2 * part * together for part in parts]
        out += [None, -2 * np.exp(2 * weak) * _slope(scaled) * scaled * together]
        out.append(-sum(parts) * together * np.exp(tie) * apart)
        out += [
            slope * squares * np.exp(-2 * log) * together for squares, log in zip(self._strong, theta[6:], strict=True)
        ]
        return out

    def _distance(self, theta: Floats) -> Floats:
        total = np.zeros_like(self._weak)
        for squares, log in zip(self._strong, theta[6:], strict=True):
            total += squares * np.exp(-2 * log)
        return total


def _matern(squared: Floats) -> Floats:
    """Return the Matern-5/2 correlation at squared distances."""
    root = np.sqrt(5 * squared)
    # in place: most of a proposal's time is spent here
    out = root / 3
    out += 1
    out *= root
    out += 1
    np.negative(root, out=root)
    out *= np.exp(root, out=root)
    return out


def _slope(squared: Floats) -> Floats:
    """Return the derivative of `_matern` by the squared distance."""
    root = np.sqrt(5 * squared)
    return -5 / 6 * (1 + root) * np.exp(-root)


def _prior(strong: int) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of the logarithms of the kernel's parameters, on standardised data.

    Amplitudes of the trend, of the strong and of the weak inputs, the noise's, the weak inputs' length, how little
    groups next to each other have in common, and the length of every strong input.
    """
    mean = np.log([0.7, 0.5, 0.4, 0.1, 1.0, 0.5] + [1.5] * strong)
    return mean, np.array([1.0, 1.0, 1.0, 1.0, 0.7, 1.0] + [0.7] * strong)


def fit(data: Observed, *, steps: int = 60) -> Floats:
    """Return the kernel's parameters of greatest posterior density, from a fixed start.

    Parameters
    ----------
    data
        At least one observation.
    steps
        Of L-BFGS at most.
    """
    scaler = Scaler.of(data)
    inputs = scaler.inputs(data.inputs)
    values = (data.values - scaler.values[0]) / scaler.values[1]
    variance = data.variance / scaler.values[1] ** 2
    kernel = Kernel(inputs, inputs)
    mean, deviation = _prior(inputs.strong.shape[1])

    def objective(theta: Floats) -> tuple[float, Floats]:
        noise = np.exp(2 * theta[3])
        covariance = kernel(theta)
        covariance[np.diag_indices_from(covariance)] += noise + variance + _JITTER
        factor = cho_factor(covariance, lower=True)
        weights = cho_solve(factor, values)
        inverse = cho_solve(factor, np.eye(len(values)))
        prior = (theta - mean) / deviation
        value = 0.5 * values @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * prior @ prior
        outer = inverse - np.outer(weights, weights)
        slopes = [
            0.5 * float(np.trace(outer)) * 2 * noise if part is None else 0.5 * float((outer * part).sum())
            for part in kernel.gradients(theta)
        ]
        return float(value), np.array(slopes) + prior / deviation

    bounds = [(m - 4 * d, m + 4 * d) for m, d in zip(mean, deviation, strict=True)]
    return minimize(objective, mean, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}).x


class Process:
    """A Gaussian process that has seen some observations.

    Parameters
    ----------
    data
        At least one observation.
    theta
        What `fit` gave, of these observations or of a part of them.
    """

    def __init__(self, data: Observed, theta: Floats, scaler: Scaler | None = None) -> None:
        self.data, self.theta = data, theta
        self._scaler = Scaler.of(data) if scaler is None else scaler
        self._inputs = self._scaler.inputs(data.inputs)
        shift, scale = self._scaler.values
        covariance = Kernel(self._inputs, self._inputs)(theta)
        covariance[np.diag_indices_from(covariance)] += np.exp(2 * theta[3]) + data.variance / scale**2 + _JITTER
        self._factor = np.linalg.cholesky(covariance)
        self._weights = cho_solve((self._factor, True), (data.values - shift) / scale)

    def with_values(self, inputs: Inputs, values: Floats) -> Process:
        """Return the process that has seen some more values, without noise."""
        mine = self.data.inputs
        joined = Inputs(
            np.concatenate([mine.strong, inputs.strong]),
            np.concatenate([mine.weak, inputs.weak]),
            np.concatenate([mine.group, inputs.group]),
        )
        variance = np.concatenate([self.data.variance, np.zeros(len(values))])
        data = Observed(joined, np.concatenate([self.data.values, values]), variance)
        return Process(data, self.theta, self._scaler)

    @cached_property
    def _inverse(self) -> Floats:
        return solve_triangular(self._factor, np.eye(len(self._factor)), lower=True)

    def __call__(self, inputs: Inputs) -> tuple[Floats, Floats]:
        """Return means and standard deviations (n,) of the values of points that were not observed.

        The noise that was fitted is taken for what each point has of its own, and is in the deviations; the variances
        that values were given with are not, being errors of measurement.
        """
        shift, scale = self._scaler.values
        scaled = self._scaler.inputs(inputs)
        cross = Kernel(self._inputs, scaled)(self.theta)
        trend, strong, weak = np.exp(2 * self.theta[:3])
        prior = trend * np.square(scaled.strong).sum(1) + strong + weak + _OFFSET**2 + np.exp(2 * self.theta[3])
        left = prior - np.square(self._inverse @ cross).sum(0)
        return shift + scale * (self._weights @ cross), scale * np.sqrt(np.maximum(left, 1e-12))
