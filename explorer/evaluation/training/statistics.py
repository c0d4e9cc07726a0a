"""Batch-norm statistics, estimated anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from explorer.data import Batch, moved, size_of
from explorer.utils.modules import device_of, modes_restored, run
from spaces.errors import PruningError

__all__ = ["reestimate_bn"]


def reestimate_bn(model: nn.Module, batches: Sequence[Batch]) -> None:
    """Replace the running statistics of every batch normalisation by those over `batches`.

    Each batch has equal weight, as in EagleEye; one of a single input, left over at the end of a data set, has none
    where there are others, since it may have no variance. Everything but batch normalisation runs in eval mode, and
    modes and momenta are restored. A model without running statistics costs nothing.

    Parameters
    ----------
    model
        Its running statistics are changed in place.
    batches
        At least one; targets are not used. Unaugmented, and the same for every sub-network that is to be compared.

    Raises
    ------
    PruningError
        If there are no batches.
    """
    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats and module.running_mean is not None
    ]
    if not norms:
        return
    if not batches:
        raise PruningError("BN re-estimation: no batches to estimate the statistics from")
    whole = [batch for batch in batches if size_of(batch[1]) > 1]
    device = device_of(model)
    momenta = [norm.momentum for norm in norms]
    with modes_restored(model), torch.no_grad():
        model.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for a cumulative average
            norm.train()
        try:
            for batch in whole or batches:
                run(model, moved(batch, device)[0])
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
