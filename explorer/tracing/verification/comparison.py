"""How far the outputs of two networks are apart."""

from __future__ import annotations

import torch

__all__ = ["difference"]


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the largest difference of two tensors, relative to the largest finite entry of the first."""
    if not a.numel():
        return 0.0
    difference = (a - b).abs().masked_fill(a == b, 0)
    return float(difference.max()) / max(float(a.abs().masked_fill(a.isinf(), 0).max()), 1e-30)
