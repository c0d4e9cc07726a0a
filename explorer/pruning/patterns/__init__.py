"""Patterns: masks made from scores, put on the weights of a module, held while it trains, and counted."""

from explorer.pruning.patterns.application import (
    Masks,
    check_same,
    gemm_of,
    make_masks,
    put_on,
    realised_costs,
    weight_of,
)
from explorer.pruning.patterns.masks import Mask, gemm_view, pattern_mask, tile_places, tiles, weight_view

__all__ = [
    "Mask",
    "Masks",
    "check_same",
    "gemm_of",
    "gemm_view",
    "make_masks",
    "pattern_mask",
    "put_on",
    "realised_costs",
    "tile_places",
    "tiles",
    "weight_of",
    "weight_view",
]
