"""The space of sub-networks that pruning can make out of a network: described, counted, costed, sampled.

Knows numpy and YAML; neither torch nor the explorer.
"""

from spaces.axis import Axis
from spaces.budget import BOUNDED, RHO, Budget, check_cost
from spaces.cost import COSTS, CostModel, costs_of, dense_costs
from spaces.errors import PruningError, first_line, unknown
from spaces.gemm import Gemm, Matrices
from spaces.granularity import GRANULARITIES, PATTERNS, Pattern
from spaces.histogram import Histogram
from spaces.layers import Dim, Layer, Leaf, Product, Reduction, Size, Span, Tensor
from spaces.neighbourhood import space_file_around
from spaces.network import Network
from spaces.population import sample_population
from spaces.recipe import Recipe
from spaces.refine import Refinement, refine, space_file_of
from spaces.regime import Count, Sample, count_inside, sample_inside
from spaces.space import PruningSpace
from spaces.space_file import PARTS
from spaces.units import BlockUnit, ChannelUnit, FixedBlock, FixedChannels

__all__ = [
    "BOUNDED",
    "COSTS",
    "GRANULARITIES",
    "PARTS",
    "PATTERNS",
    "RHO",
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
    "Histogram",
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
    "Refinement",
    "Sample",
    "Size",
    "Span",
    "Tensor",
    "check_cost",
    "costs_of",
    "count_inside",
    "dense_costs",
    "first_line",
    "refine",
    "sample_inside",
    "sample_population",
    "space_file_around",
    "space_file_of",
    "unknown",
]
