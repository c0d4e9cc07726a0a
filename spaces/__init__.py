"""The space of sub-networks that pruning can make out of a network: described, counted, costed, sampled.

Knows numpy and YAML; neither torch nor the explorer.
"""

from spaces.axis import Axis
from spaces.cost import COSTS, CostModel, costs_of, dense_costs
from spaces.errors import PruningError, first_line, unknown
from spaces.files import PARTS
from spaces.gemm import Gemm, Matrices
from spaces.granularity import GRANULARITIES, PATTERNS, Pattern
from spaces.network import (
    BlockUnit,
    ChannelUnit,
    Dim,
    FixedBlock,
    FixedChannels,
    Layer,
    Leaf,
    Network,
    Product,
    Reduction,
    Run,
    Tensor,
)
from spaces.recipe import Recipe
from spaces.regime import Budget, Count, Sample, count_inside, sample_inside
from spaces.space import PruningSpace

__all__ = [
    "COSTS",
    "GRANULARITIES",
    "PARTS",
    "PATTERNS",
    "Axis",
    "BlockUnit",
    "Budget",
    "ChannelUnit",
    "CostModel",
    "Count",
    "Dim",
    "FixedBlock",
    "FixedChannels",
    "Gemm",
    "Layer",
    "Leaf",
    "Matrices",
    "Network",
    "Pattern",
    "Product",
    "PruningError",
    "PruningSpace",
    "Recipe",
    "Reduction",
    "Run",
    "Sample",
    "Tensor",
    "costs_of",
    "count_inside",
    "dense_costs",
    "first_line",
    "sample_inside",
    "unknown",
]
