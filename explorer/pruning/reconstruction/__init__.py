"""Reconstruction: the weights that pruning leaves are solved to give what the dense network gave."""

from explorer.pruning.reconstruction.reconstructor import Reconstructor, Report
from explorer.pruning.reconstruction.settings import Settings

__all__ = ["Reconstructor", "Report", "Settings"]
