"""Exact costs of many recipes at once.

A tensor's entries are the product of its dimensions' kept widths, and a width is linear in the steps kept of
the units: so every cost is a polynomial, evaluated here for an (n, axes) array of choices. Products are made
once for all costs, in blocks that stay in the processor's cache, and summed by one matrix product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from spaces.granularity import kept_steps
from spaces.network import Dim, Network
from spaces.recipe import Recipe

__all__ = ["COSTS", "CostModel", "costs_of", "dense_costs"]

COSTS = ("flops", "params", "bytes")
"""What is counted: multiply-adds for one input, parameters, bytes of parameters and buffers."""

# 30 axes and 60 products of 4,096 float64 values: about the size of a second-level cache
_BLOCK = 4096


@dataclass(frozen=True)
class Width:
    """A dimension's kept length: ``constant + sum(per_step * steps kept)``."""

    constant: int
    per_step: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Term:
    """A product of widths with its coefficient in each of `COSTS`."""

    widths: tuple[Width, ...]
    coefficients: tuple[int, ...]


class CostModel:
    """FLOPs, parameters and bytes of recipes given as choices on axes.

    Parameters
    ----------
    network
        The network whose costs are counted.
    steps
        For every axis the unit it decides and the steps kept by each of its choices.

    Notes
    -----
    Sums are made in float64, which is exact for integers up to 2**53; where the dense network exceeds that,
    in 64-bit integers.
    """

    def __init__(self, network: Network, steps: Sequence[tuple[str, Sequence[int]]]) -> None:
        free = {unit for unit, _ in steps}
        dense = {unit.name: unit.steps for unit in network.units if unit.name not in free}
        terms = _terms(network, dense)
        self.dtype = np.float64 if max(dense_costs(network).values()) < 2**53 else np.int64
        widths = sorted({width for term in terms for width in term.widths}, key=repr)
        axis_of = {unit: axis for axis, (unit, _) in enumerate(steps)}
        self._tables: list[tuple[int, list[tuple[int, npt.NDArray]]]] = []
        for width in widths:
            parts = [
                (axis_of[unit], np.asarray(steps[axis_of[unit]][1], dtype=self.dtype) * per_step)
                for unit, per_step in width.per_step
            ]
            self._tables.append((width.constant, parts))
        position = {width: i for i, width in enumerate(widths)}
        variable = [term for term in terms if term.widths]
        self._factors = [tuple(position[width] for width in term.widths) for term in variable]
        self._coefficients = (
            np.array([term.coefficients for term in variable], dtype=self.dtype).reshape(-1, len(COSTS)).T
        )
        constant = [term.coefficients for term in terms if not term.widths]
        self._constant = np.array(constant, dtype=np.int64).reshape(-1, len(COSTS)).sum(0)

    def __call__(self, rows: npt.NDArray) -> dict[str, npt.NDArray[np.int64]]:
        """Return each of `COSTS` as an int64 array of length n.

        Parameters
        ----------
        rows
            (n, axes) integer array of choices.
        """
        out = np.empty((len(COSTS), len(rows)), dtype=np.int64)
        products = np.empty((len(self._factors), _BLOCK), dtype=self.dtype)
        for start in range(0, len(rows), _BLOCK):
            block = np.ascontiguousarray(rows[start : start + _BLOCK].T)
            widths = [self._width(block, *table) for table in self._tables]
            for i, (first, *rest) in enumerate(self._factors):
                product = products[i, : block.shape[1]]
                product[:] = widths[first]
                for other in rest:
                    product *= widths[other]
            total = self._coefficients @ products[:, : block.shape[1]]
            out[:, start : start + _BLOCK] = total + self._constant[:, None]
        return dict(zip(COSTS, out, strict=True))

    def _width(self, block: npt.NDArray, constant: int, parts: list[tuple[int, npt.NDArray]]) -> npt.NDArray:
        axis, table = parts[0]
        width = table.take(block[axis])
        for axis, table in parts[1:]:
            width += table.take(block[axis])
        if constant:
            width += constant
        return width


def costs_of(network: Network, recipe: Recipe) -> dict[str, int]:
    """Return FLOPs, parameters and bytes of one recipe of any space of `network`."""
    kept = {unit.name: kept_steps(recipe.ratios.get(unit.name, 1.0), unit.steps) for unit in network.units}
    totals = (
        np.array([term.coefficients for term in _terms(network, kept)], dtype=object).reshape(-1, len(COSTS)).sum(0)
    )
    return {name: int(total) for name, total in zip(COSTS, totals, strict=True)}


def dense_costs(network: Network) -> dict[str, int]:
    """Return FLOPs, parameters and bytes of the dense network."""
    return costs_of(network, Recipe())


def _terms(network: Network, known: Mapping[str, int]) -> list[Term]:
    """Return the cost polynomial with the units in `known` at that many steps, one term a distinct product."""
    positions: dict[str, int] = {}
    for layer in network.layers:
        positions[layer.weight] = positions.get(layer.weight, 0) + layer.positions
    summed: dict[tuple[Width, ...], npt.NDArray] = {
        (): np.array([sum(p.flops for p in network.products), 0, 0], dtype=object)
    }
    for tensor in network.tensors:
        coefficients = np.array([positions.get(tensor.name, 0), tensor.parameter, tensor.itemsize], dtype=object)
        widths = []
        for dim in tensor.dims:
            width = _width(network, dim, known)
            if width.per_step:
                widths.append(width)
            else:
                coefficients = coefficients * width.constant
        key = tuple(sorted(widths, key=repr))
        summed[key] = summed.get(key, 0) + coefficients
    return [Term(widths, tuple(int(value) for value in coefficients)) for widths, coefficients in summed.items()]


def _width(network: Network, dim: Dim, known: Mapping[str, int]) -> Width:
    constant = 0
    entries: dict[str, int] = {}
    for run in dim.runs:
        if run.unit is None:
            constant += run.entries
        else:
            entries[run.unit] = entries.get(run.unit, 0) + run.entries
    per_step = {}
    for unit, count in entries.items():
        each = count // (network.unit[unit].steps * dim.groups)
        if unit in known:
            constant += each * known[unit] * dim.groups
        else:
            per_step[unit] = each
    return Width(constant // dim.groups, tuple(sorted(per_step.items())))
