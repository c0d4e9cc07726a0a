"""Criteria that score channels only, and nothing inside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from explorer.pruning.criteria.channels import by_channel
from explorer.pruning.criteria.magnitude import l1
from explorer.pruning.criteria.subject import Subject
from spaces import PruningError

__all__ = ["bn_scale", "fpgm"]

log = logging.getLogger(__name__)

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def bn_scale(subject: Subject) -> dict[str, Tensor]:
    """Return the magnitudes of the scales that norms multiply channels with.

    The scales of all norms of a unit count, batch norm's and others'. Units that no norm scales have their L1 scores,
    made with the same options; which they are is logged.

    Raises
    ------
    PruningError
        If no unit has a scale.
    """
    sums, found = subject.sums(), subject.network.tensor
    for name in _scales(subject.model):
        if name in found and found[name].units:
            sums.add(found[name].dims[0], subject.tensors[name].detach().cpu().double().abs())
    missing = sums.missing()
    if missing and len(missing) == len(subject.network.units):
        raise PruningError("criterion: bn_scale needs norms with scales, and none here scales a prunable channel")
    scores = sums.scores()
    if missing:
        log.info("criterion: no norm scales %s; scored by l1", ", ".join(missing))
        magnitudes = subject.sums()
        for name, values in l1(subject):
            magnitudes.add_weight(name, values)
        scores |= {unit: values for unit, values in magnitudes.scores().items() if unit in missing}
    return scores


def _scales(model: nn.Module) -> Iterator[str]:
    """Yield the names of the scales of norms, those of shared modules once."""
    for name, module in model.named_modules():
        if isinstance(module, _NORMS) and module.weight is not None and module.weight.dim() == 1:
            yield f"{name}.weight" if name else "weight"


def fpgm(subject: Subject) -> dict[str, Tensor]:
    """Return the sums of every channel's distances to the others in the same tensor.

    The channels nearest to the geometric median of all go first, since the others can stand in for them. In each member
    a channel is the slice of the weight that belongs to it: a filter, or all that readers multiply with it. Of a
    grouped convolution's inputs only those of the same group are compared. With the norm l2 distances are Euclidean, as
    proposed, with l1 sums of magnitudes. Where a channel has several entries in a member, their sums are added.
    """
    # the norm is the distances': what comes of them is added
    sums = replace(subject, options=replace(subject.options, norm="l1")).sums()
    power = {"l1": 1.0, "l2": 2.0}[subject.options.norm]
    for name, weight in subject.weights.items():
        values = weight.detach().cpu().double()
        for axis, dim in enumerate(subject.network.tensor[name].dims):
            if dim.units:
                rows = by_channel(values, axis, dim.groups).unflatten(0, (dim.groups, -1))
                sums.add(dim, torch.cdist(rows, rows, p=power).sum(2).flatten())
    return sums.scores()
