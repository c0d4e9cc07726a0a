"""Recipe: one sub-network of a space."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import PruningError, first_line, unknown
from spaces.gemm import Gemm
from spaces.granularity import Pattern, checked_ratio, kept_steps, rounded
from spaces.network import Network

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """What is kept: the ratio of every channel unit, the pattern of every weight, and the blocks that are dropped.

    Blocks are dropped first, then channels sliced, then patterns put on what is left. What is not named stays.

    Parameters
    ----------
    channels
        (unit, ratio) pairs, sorted by unit, without the ratios that are 1: `of` makes them so.
    weights
        (layer, pattern) pairs, sorted by layer, likewise.
    blocks
        The blocks dropped, sorted.

    Examples
    --------
    >>> Recipe.of({"conv2": 0.5, "conv1": 1}) == Recipe.of({"conv2": 0.5})
    True
    >>> print(Recipe.of({"conv2": 0.5}, {"conv3": {"granularity": "vector", "n": 1, "m": 4}}, ["block3"]).to_yaml())
    channels:
      conv2: 0.5
    weights:
      conv3: {granularity: vector, n: 1, m: 4}
    blocks:
      block3: 0
    <BLANKLINE>
    """

    channels: tuple[tuple[str, float], ...] = ()
    weights: tuple[tuple[str, Pattern], ...] = ()
    blocks: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        channels: Mapping[str, float] | None = None,
        weights: Mapping[str, Pattern | Mapping[str, Any]] | None = None,
        blocks: Collection[str] = (),
    ) -> Recipe:
        """Return the recipe that keeps `channels[unit]` of units and `weights[layer]` of weights, without `blocks`.

        Raises
        ------
        PruningError
            If a ratio is not in (0, 1], or a mapping is no pattern.
        """
        ratios = {unit: checked_ratio(f"channels.{unit}", ratio) for unit, ratio in (channels or {}).items()}
        patterns = {
            layer: pattern if isinstance(pattern, Pattern) else Pattern.of(pattern, f"weights.{layer}")
            for layer, pattern in (weights or {}).items()
        }
        return cls(
            tuple(sorted((unit, ratio) for unit, ratio in ratios.items() if ratio < 1)),
            tuple(sorted((item for item in patterns.items() if item[1].ratio < 1), key=lambda item: item[0])),
            tuple(sorted(set(blocks))),
        )

    @cached_property
    def ratios(self) -> Mapping[str, float]:
        """Ratios below 1 by channel unit."""
        return dict(self.channels)

    @cached_property
    def patterns(self) -> Mapping[str, Pattern]:
        """Patterns by layer."""
        return dict(self.weights)

    def granularity(self, network: Network) -> str:
        """Return the recipe's only granularity; ``dense`` where it removes nothing, ``mixed`` for several.

        Single weights of a layer without kernel positions are its kernels too.
        """
        names = [{"filter"}] * bool(self.channels) + [{"layer"}] * bool(self.blocks)
        for layer, pattern in self.weights:
            pointwise = pattern.granularity == "element" and Gemm.of(network, network.layer[layer]).kernel == 1
            names.append({"element", "kernel"} if pointwise else {pattern.granularity})
        return min(set.intersection(*names), default="mixed") if names else "dense"

    def canonical(self, network: Network) -> Recipe:
        """Return the recipe with every choice replaced by what it realises in `network`.

        Ratios of channels become those of whole steps, patterns that keep the same of a dense layer one pattern,
        and choices inside dropped blocks none. Two recipes that differ in widths, patterns or blocks make the same
        sub-network only if their canonical recipes are equal.

        Raises
        ------
        PruningError
            If a named unit, layer or block is not one of the network's, or a layer cannot have its pattern.
        """
        for name in self.blocks:
            if name not in network.block:
                raise unknown("blocks", name, network.block)
        dropped = [network.block[name] for name in self.blocks]
        realised = {}
        for name, ratio in self.channels:
            if name not in network.unit:
                raise unknown("channels", name, network.unit)
            if not any(block.name in network.enclosing[name] for block in dropped):
                steps = network.unit[name].steps
                realised[name] = rounded(kept_steps(ratio, steps) / steps)
        patterns = {}
        for name, pattern in self.weights:
            if name not in network.layer:
                raise unknown("weights", name, network.layer)
            gemm = Gemm.of(network, network.layer[name])
            if (reason := gemm.refuses(pattern.granularity)) is not None:
                raise PruningError(f"weights.{name}: {pattern.granularity}: {reason}")
            found = gemm.canonical(pattern)
            if found is not None and not any(block.holds(name) for block in dropped):
                patterns[name] = found
        blocks = [b.name for b in dropped if not any(other.holds(b.name) for other in dropped if other is not b)]
        return Recipe.of(realised, patterns, blocks)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-safe values; parts that keep everything are left out."""
        parts = {
            "channels": dict(self.channels),
            "weights": {layer: pattern.to_dict() for layer, pattern in self.weights},
            "blocks": dict.fromkeys(self.blocks, 0),
        }
        return {name: part for name, part in parts.items() if part}

    @classmethod
    def from_dict(cls, plain: Any) -> Recipe:
        """Return the recipe that `to_dict` described.

        Raises
        ------
        PruningError
            If `plain` holds anything but ``channels: {unit: ratio}``, ``weights: {layer: pattern}`` and
            ``blocks: {block: 0 or 1}``.
        """
        parts = ("channels", "weights", "blocks")
        if not isinstance(plain, Mapping):
            raise PruningError(f"recipe: expected a mapping with {', '.join(parts)}, got {plain!r}")
        for key, part in plain.items():
            if key not in parts:
                raise unknown("recipe", key, parts)
            if not isinstance(part, Mapping):
                raise PruningError(f"recipe.{key}: expected a mapping, got {part!r}")
        blocks = plain.get("blocks", {})
        for name, kept in blocks.items():
            if kept not in (0, 1):
                raise PruningError(f"blocks.{name}: {kept!r}, allowed is 1 (kept) or 0 (dropped)")
        return cls.of(plain.get("channels"), plain.get("weights"), [name for name, kept in blocks.items() if not kept])

    def to_yaml(self) -> str:
        """Return the recipe as YAML text, read back by `from_yaml`."""
        plain = self.to_dict()
        if "weights" in plain:
            plain["weights"] = {layer: _OneLine(pattern) for layer, pattern in plain["weights"].items()}
        return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, width=200)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Return the recipe written by `to_yaml`."""
        try:
            return cls.from_dict(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise PruningError(f"recipe: not YAML ({first_line(error)})") from None

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Return the recipe stored at `path`."""
        return cls.from_yaml(Path(path).read_text())


class _OneLine(dict[str, Any]):
    """A mapping written in one line."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(
    _OneLine, lambda dumper, value: dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)
)
