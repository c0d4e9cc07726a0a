"""Random parameters and statistics, with which a network shows its mistakes."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

__all__ = ["randomised"]


def randomised(model: nn.Module, generator: torch.Generator, gain: float = 1.0) -> nn.Module:
    """Fill a model with random values that keep activations near unit scale; fresh models hide errors behind zeros.

    A `gain` below 1 makes weights, but not norms, smaller.
    """

    def normal(tensor: torch.Tensor, std: float) -> torch.Tensor:
        # made in single precision, in a third of the time
        precision = torch.complex64 if tensor.is_complex() else torch.float32
        return (torch.randn(tensor.shape, generator=generator, dtype=precision) * std).to(tensor.dtype)

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                fan_in = parameter.numel() // max(1, parameter.size(0))
                parameter.copy_(normal(parameter, gain * math.sqrt(2 / max(1, fan_in))))
            else:
                parameter.copy_(1 + normal(parameter, 0.2))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._NormBase) and module.running_mean is not None:
                mean, variance = module.running_mean, cast(torch.Tensor, module.running_var)
                mean.copy_(normal(mean, 0.2))
                variance.copy_(normal(variance, 0.2).abs() + 0.8)
    return model
