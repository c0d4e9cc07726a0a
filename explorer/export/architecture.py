"""Architecture: the configuration of transformers whose model has a sub-network's sizes.

Nothing is known of any architecture. What a number of a configuration decides shows when the architecture is built with
another number, without storage; then the numbers are found that give every tensor the sub-network's shape.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from explorer.export.config_numbers import Place, at, changed, counts_heads, homes, places, scaled, shown, value_of
from explorer.export.layer_lists import LayerLists
from explorer.utils.quiet import quiet
from spaces import PruningError

__all__ = ["configured"]

Sizes = dict[tuple[str, int | str], int]
"""Lengths by tensor and axis, and the whole numbers that modules keep by module and attribute."""

Numbers = dict[Place, int]

Score = tuple[float, float]
"""How many dimensions of tensors, and how many numbers of modules, are not as wanted."""

Rates = Mapping[tuple[str, int | str], Fraction]
"""By how much sizes grow with a number, for each 1."""

# what configurations may leave out, and work out from other numbers then
_LEFT_OUT = ("head_dim", "n_inner", "num_key_value_heads", "intermediate_size")
# of which one is another than what was worked out
_PROBES = (8, 12)
# values that are tried for one number, those that most tensors ask for first
_TRIED = 4


def configured(module: Any) -> tuple[Any, LayerLists]:
    """Return the configuration whose model has the tensors of a sub-network, and how layers are numbered in it.

    Parameters
    ----------
    module
        A sub-network of a model of transformers.

    Raises
    ------
    PruningError
        If there is none; the message says which widths the configuration has one number for.
    """
    kind, lists = type(module), LayerLists.of(module)
    config = _shortened(kind, copy.deepcopy(module.config), lists)
    wanted = {(new, key): size for (name, key), size in _sizes(module).items() if (new := lists.name(name)) is not None}
    return _Fit(kind, config, wanted).configuration(), lists


def _shortened(kind: type[nn.Module], config: Any, lists: LayerLists) -> Any:
    """Return a configuration that has as many layers as are not left out."""
    for name, stay in lists.left.items():
        new = lists.name(name)
        if new is None:
            continue
        count = lists.counts[name]
        for place in [place for place in places(config) if at(config, place) == count]:
            trial = changed(config, {place: len(stay)})
            home = at(trial, place[:-1])
            if not isinstance(home, list):
                # what is told layer by layer
                for key, value in vars(home).items():
                    if isinstance(value, list) and len(value) == count:
                        vars(home)[key] = [value[index] for index in stay]
            if _count(_built(kind, trial), new) == len(stay):
                config = trial
                break
        else:
            number = type(config).__name__
            raise PruningError(f"hf: {number} has no number for {name} alone, of which {len(stay)} of {count} are left")
    return config


class _Fit:
    """The search for the numbers of a configuration that give the sizes wanted."""

    def __init__(self, kind: type[nn.Module], config: Any, wanted: Sizes) -> None:
        self.kind, self.given, self.wanted = kind, config, wanted
        model = _built(kind, config)
        self.base = {} if model is None else _sizes(model)
        # what is worked out of other numbers is said, so that each decides something of its own
        self.said = dict(self._worked_out())
        self.config = changed(config, self.said)
        self.name = type(config).__name__
        self.dims = [key for key in wanted if isinstance(key[1], int)]
        if {name for name, _ in self.dims} != {name for name, axis in self.base if isinstance(axis, int)}:
            raise PruningError(f"hf: a model that {self.name} makes has other tensors than the sub-network")

    def configuration(self) -> Any:
        """Return the configuration; see `configured`."""
        if not self._wrong(self.base)[0]:
            return self.given
        rates = {place: rates for place in places(self.config) if (rates := self._rates(place))}
        found: list[tuple[Score, Numbers]] = []
        for first in (_by_numbers, _by_dims):
            values = {place: self._values(place, rates[place], first) for place in rates}
            found.append(self._descended({place: options[0] for place, options in values.items()}, values))
            if not found[-1][0][0]:
                break
        score, best = min(found, key=lambda entry: entry[0])
        if score[0]:
            raise PruningError(self._reason(best, rates))
        best, score = self._with_heads(best, score)
        for place in self.said:
            without = {other: value for other, value in best.items() if other != place}
            best = without if self._score(without) <= score else best
        return changed(self.given, best)

    def _worked_out(self) -> Iterator[tuple[Place, int]]:
        """Yield numbers that the configuration leaves out, and that tensors show."""
        for place in [(*home, name) for home in homes(self.given) for name in _LEFT_OUT]:
            if value_of(self.given, place) is not None:
                continue
            for probe in _PROBES:
                model = _built(self.kind, changed(self.given, {place: probe}))
                now = {} if model is None else _sizes(model)
                # a number that is divided by the probe may come to nothing
                values = {
                    Fraction(size * probe, now[key])
                    for key, size in self.base.items()
                    if now.get(key, size) not in (0, size)
                }
                if len(values) == 1 and (value := values.pop()).denominator == 1:
                    yield place, int(value)
                    break

    def _with_heads(self, best: Numbers, score: Score) -> tuple[Numbers, Score]:
        """Return numbers with those of heads, which no tensor tells."""
        heads = [place for place in places(self.config) if counts_heads(place)]
        # queries', and keys and values' too where they are counted apart
        for counted in [*([place] for place in heads), heads]:
            if score[1] and counted:
                trials = [best | numbers for numbers in scaled({place: at(self.config, place) for place in counted})]
                scored = [(self._score(trial), index) for index, trial in enumerate(trials)]
                least, index = min(scored)
                score, best = (least, trials[index]) if least < score else (score, best)
        return best, score

    def _rates(self, place: Place) -> Rates:
        """Return the sizes that grow with a number, and by how much for each 1."""
        value = at(self.config, place)
        # heads must divide a width, and widths be divided by heads
        for probe in (2 * value, 3 * value, value // 2, 1):
            model = None if probe in (0, value) else _built(self.kind, changed(self.config, {place: probe}))
            if model is not None:
                now = _sizes(model)
                moved = [key for key, size in self.base.items() if now.get(key, size) != size and key in self.wanted]
                return {key: Fraction(now[key], probe) for key in moved if now[key] * value == self.base[key] * probe}
        return {}

    def _asked(self, rates: Rates) -> dict[int, list[Any]]:
        """Return the values that sizes ask of a number, and which do."""
        found: dict[int, list[Any]] = {}
        for key, rate in rates.items():
            value = self.wanted[key] / rate
            if value.denominator == 1 and value > 0:
                found.setdefault(int(value), []).append(key)
        return found

    def _values(self, place: Place, rates: Rates, first: Callable[[Sequence[Any]], Any]) -> list[int]:
        """Return the values to try for a number, the likeliest first."""
        now, asked = at(self.config, place), self._asked(rates)
        likely = sorted(asked, key=lambda value: first(asked[value]), reverse=True)[:_TRIED]
        return likely if now in likely else [*likely, now]

    def _descended(self, start: Numbers, values: Mapping[Place, Sequence[int]]) -> tuple[Score, Numbers]:
        """Return the least number of wrong sizes that changing one number after the other reaches, and the numbers."""
        best, score = start, self._score(start)
        while score > (0, 0):
            trials = [best | {place: value} for place in values for value in values[place] if value != best[place]]
            scored = [(self._score(trial), index) for index, trial in enumerate(trials)]
            least, index = min(scored, default=(score, 0))
            if least >= score:
                break
            score, best = least, trials[index]
        return score, best

    def _score(self, numbers: Numbers) -> Score:
        model = _built(self.kind, changed(self.given, numbers))
        return (float("inf"), float("inf")) if model is None else self._wrong(_sizes(model))

    def _wrong(self, sizes: Sizes) -> Score:
        wrong = [key for key, size in self.wanted.items() if sizes.get(key) != size]
        dims = sum(isinstance(axis, int) for _, axis in wrong)
        return dims, len(wrong) - dims

    def _reason(self, best: Numbers, rates: Mapping[Place, Rates]) -> str:
        """Return what the configuration has one number for where the sub-network needs several."""
        model = _built(self.kind, changed(self.given, best))
        sizes = {} if model is None else _sizes(model)
        wrong = {key for key in self.dims if sizes.get(key) != self.wanted[key]}
        # of several the one that decides least besides
        blamed = max(rates, key=lambda place: (len(wrong & rates[place].keys()), -len(rates[place])), default=None)
        told = {} if blamed is None else {key: rate for key, rate in rates[blamed].items() if key in self.dims}
        asked = self._asked(told)
        if blamed is None or len(asked) < 2:
            name, axis = min(wrong, key=str)
            return f"hf: {self.name} can't say that {name} has {self.wanted[name, axis]} along dimension {axis}"
        ways = [f"{value} in {_some([name for name, _ in asked[value]])}" for value in sorted(asked, reverse=True)]
        several = ", ".join(ways[:_TRIED]) + (f" and {len(ways) - _TRIED} other widths" if len(ways) > _TRIED else "")
        return (
            f"hf: {self.name} has one {shown(blamed)}, and the sub-network needs {several}; space.tie gives units one "
            "ratio"
        )


def _count(model: nn.Module | None, name: str) -> int | None:
    """Return how many layers a list has, None where it is not there."""
    part = None if model is None else dict(model.named_modules()).get(name)
    return len(part) if isinstance(part, nn.ModuleList) else None


def _some(names: Sequence[str]) -> str:
    """Return the first of some tensors' layers, and how many more there are."""
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    return layers[0] if len(layers) == 1 else f"{layers[0]} (and {len(layers) - 1} more)"


def _by_numbers(keys: Sequence[Any]) -> tuple[int, int]:
    """Return how likely a value is by who asks for it: first modules' numbers, such as how many heads there are."""
    numbers = sum(isinstance(axis, str) for _, axis in keys)
    return numbers, len(keys) - numbers


def _by_dims(keys: Sequence[Any]) -> int:
    return sum(isinstance(axis, int) for _, axis in keys)


def _sizes(model: nn.Module) -> Sizes:
    found: Sizes = {
        (name, axis): size for name, tensor in model.state_dict().items() for axis, size in enumerate(tensor.shape)
    }
    for name, part in model.named_modules():
        # torch's layers have the numbers of their tensors
        if not type(part).__module__.startswith("torch."):
            found |= {(name, key): value for key, value in vars(part).items() if type(value) is int}
    return found


def _built(kind: type[nn.Module], config: Any) -> nn.Module | None:
    """Return a model without storage, None where its code refuses the configuration."""
    try:
        with torch.device("meta"), quiet():
            return kind(copy.deepcopy(config))
    except Exception:  # of somebody's code, for numbers that do not go together
        return None
