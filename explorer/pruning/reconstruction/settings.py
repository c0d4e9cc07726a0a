"""How sub-networks are reconstructed; checked without torch."""

from __future__ import annotations

from dataclasses import dataclass

from explorer.utils.checks import checked_number

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """What the weights of a sub-network are solved on.

    Parameters
    ----------
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

    positions: int = 16
    ridge: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        checked_number("reconstruction.positions", self.positions, least=1)
        checked_number("reconstruction.ridge", self.ridge, least=0, whole=False)
        checked_number("reconstruction.seed", self.seed, least=0)
