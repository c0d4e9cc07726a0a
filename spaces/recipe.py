"""Recipe: one sub-network of a space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from spaces.errors import PruningError, unknown
from spaces.granularity import checked_ratio, kept_steps
from spaces.network import Network

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """The ratio kept of every channel unit; units that are not named stay dense.

    Parameters
    ----------
    channels
        (unit, ratio) pairs, sorted by unit, without the ratios that are 1: `of` makes them so.

    Examples
    --------
    >>> Recipe.of({"conv2": 0.5, "conv1": 1}) == Recipe.of({"conv2": 0.5})
    True
    >>> print(Recipe.of({"conv2": 0.5}).to_yaml())
    channels:
      conv2: 0.5
    <BLANKLINE>
    """

    channels: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, channels: Mapping[str, float]) -> Recipe:
        """Return the recipe that keeps `channels[unit]` of each named unit.

        Raises
        ------
        PruningError
            If a ratio is not in (0, 1].
        """
        ratios = {unit: checked_ratio(f"channels.{unit}", ratio) for unit, ratio in channels.items()}
        return cls(tuple(sorted((unit, ratio) for unit, ratio in ratios.items() if ratio < 1)))

    @cached_property
    def ratios(self) -> Mapping[str, float]:
        """Ratios below 1 by unit."""
        return dict(self.channels)

    def canonical(self, network: Network) -> Recipe:
        """Return the recipe with every ratio replaced by the one it realises in `network`.

        Two recipes make the same sub-network exactly when their canonical recipes are equal.

        Raises
        ------
        PruningError
            If a named unit is not one of the network's.
        """
        realised = {}
        for name, ratio in self.channels:
            if name not in network.unit:
                raise unknown("channels", name, network.unit)
            steps = network.unit[name].steps
            realised[name] = realised_ratio(kept_steps(ratio, steps), steps)
        return Recipe.of(realised)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON-safe values."""
        return {"channels": dict(self.channels)}

    @classmethod
    def from_dict(cls, plain: Any) -> Recipe:
        """Return the recipe that `to_dict` described.

        Raises
        ------
        PruningError
            If `plain` holds anything but ``channels: {unit: ratio}``.
        """
        if not isinstance(plain, Mapping) or not isinstance(plain.get("channels"), Mapping):
            raise PruningError("recipe: expected 'channels: {unit: ratio}'")
        for key in plain:
            if key != "channels":
                raise unknown("recipe", key, ["channels"])
        return cls.of(plain["channels"])

    def to_yaml(self) -> str:
        """Return the recipe as YAML text, read back by `from_yaml`."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Return the recipe written by `to_yaml`."""
        try:
            return cls.from_dict(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise PruningError(f"recipe: not YAML ({str(error).splitlines()[0]})") from None

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Return the recipe stored at `path`."""
        return cls.from_yaml(Path(path).read_text())


def realised_ratio(kept: int, steps: int) -> float:
    """Return kept / steps with as few digits as name it; `kept_steps` gives `kept` back."""
    return round(kept / steps, 6)
