"""How sub-networks are reconstructed, as a file of conf/evaluator or a caller says, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from explorer.utils.checks import checked_number
from spaces import unknown

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What the weights of a sub-network are solved on.

    Parameters
    ----------
    batches
        Calibration batches that are read, of those given.
    positions
        Places of each input at which a layer's outputs are compared, at most; a layer with fewer has all of them.
    ridge
        Weight of the distance to the inherited weights, over the mean square of what they are multiplied with.
    seed
        Of the places.

    Raises
    ------
    PruningError
        If a number is out of range.
    """

    batches: int = 4
    positions: int = 16
    ridge: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        checked_number("reconstruction.batches", self.batches, least=1)
        checked_number("reconstruction.positions", self.positions, least=1)
        checked_number("reconstruction.ridge", self.ridge, least=0, whole=False)
        checked_number("reconstruction.seed", self.seed, least=0)

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Settings:
        """Return the settings of a mapping from their names to values.

        Raises
        ------
        PruningError
            If a name is unknown or a number is out of range.
        """
        names = [field.name for field in fields(cls)]
        for name in section:
            if name not in names:
                raise unknown("reconstruction", name, names)
        return cls(**section)
