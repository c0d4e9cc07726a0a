"""Surgery: from the channels and blocks that a recipe keeps to a smaller module, by slicing."""

from explorer.pruning.surgery.atoms import Atoms, Kept
from explorer.pruning.surgery.stand_ins import ChannelSlice, Skip
from explorer.pruning.surgery.surgeon import Surgeon

__all__ = ["Atoms", "ChannelSlice", "Kept", "Skip", "Surgeon"]
