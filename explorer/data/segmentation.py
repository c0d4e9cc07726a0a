"""The task of segmentation: to tell the class of every pixel."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.data.predictions import prediction
from explorer.data.task import Task
from explorer.utils.checks import checked_number
from explorer.utils.keywords import known_keywords
from spaces.errors import PruningError, unknown

__all__ = ["MeanIoU", "segmentation"]

log = logging.getLogger("explorer")

_METRICS = ("iou", "accuracy")


@known_keywords
def segmentation(classes: int, metric: str = "iou", ignore_label: int = 255) -> Task:
    """Return the task of telling the class of every pixel.

    The loss is the mean cross-entropy of a pixel. Logits are [n, classes, height, width], or ``out`` or ``logits`` of
    what the model returns; targets are int64 [n, height, width]. Logits of a lower resolution are interpolated to that
    of the targets, as users of SegFormer do. The trivial predictor gives every pixel the most frequent class.

    Parameters
    ----------
    classes
        How many there are.
    metric
        ``iou``, the mean over classes of intersection over union, or ``accuracy``, the share of pixels.
    ignore_label
        The label of pixels that do not count.

    Raises
    ------
    PruningError
        If the metric is another, or a number is none that is allowed.
    """
    if metric not in _METRICS:
        raise unknown("task.metric", metric, _METRICS)
    checked_number("task.classes", classes, least=2)
    checked_number("task.ignore_label", ignore_label, least=-(2**31))
    accuracy = partial(_accuracy, ignored=ignore_label)
    return Task(
        partial(_loss, classes=classes, ignored=ignore_label),
        MeanIoU(ignore_label) if metric == "iou" else accuracy,
        "mean IoU" if metric == "iou" else "pixel accuracy",
        "%",
        higher_is_better=True,
        prediction=_maps,
        constant=partial(_most_frequent, ignored=ignore_label),
        class_dim=1,
        targets=partial(_check, classes=classes, ignored=ignore_label),
    )


class MeanIoU:
    """The mean over classes of intersection over union, each over the pixels of all images together.

    Classes without a pixel in the targets are left out, whatever is predicted: so the mean is over the same classes for
    every network. The standard error is that of images, whose pixels are not independent: the mean is no mean over
    images, but a smooth function of sums over them, of which the infinitesimal jackknife gives the variance (Jaeckel
    1972; Efron 1982, chapter 6).

    Parameters
    ----------
    ignored
        The label of pixels that do not count.
    """

    def __init__(self, ignored: int = 255) -> None:
        self._ignored = ignored
        self._counts: list[Tensor] = []

    def add(self, predictions: Tensor, targets: Tensor) -> None:
        """Take in logits [n, classes, h, w] and targets [n, height, width]."""
        classes = predictions.size(1)
        labels, predicted = targets, _resized(predictions, targets).argmax(1)
        counted = labels != self._ignored
        # one more class holds what does not count, so that all images are counted at once
        own, theirs, both = (
            torch.where(kept, part, classes)
            for kept, part in ((counted, predicted), (counted, labels), (counted & (predicted == labels), labels))
        )
        self._counts.append(torch.stack([_by_image(part, classes) for part in (own, theirs, both)], 1))

    def mean(self, weights: Tensor) -> tuple[float, float]:
        """Return the mean with its standard error; both NaN where no pixel counts, the error of one image too."""
        counts = torch.cat(self._counts).double().cpu()
        occurring = counts[:, 1].sum(0) > 0
        own, theirs, both = counts[:, :, occurring].unbind(1)
        union = own + theirs - both
        ratios = both.sum(0) / union.sum(0)
        if len(counts) < 2 or not len(ratios):
            return float(ratios.mean()), math.nan
        influence = ((both - ratios * union) / union.sum(0)).mean(1)
        return float(ratios.mean()), float(influence.norm()) * math.sqrt(len(counts) / (len(counts) - 1))

    @property
    def size(self) -> int:
        """In how many images the rarest class is.

        Racing looks at part of the images: where a class is in few of them, or none yet, the mean says little of the
        whole, whatever its standard error.
        """
        return int((torch.cat(self._counts)[:, 1] > 0).sum(0).min()) if self._counts else 0


def _by_image(labels: Tensor, classes: int) -> Tensor:
    """Return how many pixels of each image are of each class, [n, classes]; labels of `classes` are not counted."""
    places = labels.flatten(1) + torch.arange(len(labels), device=labels.device)[:, None] * (classes + 1)
    return torch.bincount(places.flatten(), minlength=len(labels) * (classes + 1)).view(-1, classes + 1)[:, :classes]


def _maps(output: Any) -> Any:
    """Return the logits of what a model returns: models of torchvision call them out."""
    return output["out"] if isinstance(output, Mapping) and "out" in output else prediction(output)


def _resized(logits: Tensor, targets: Tensor) -> Tensor:
    """Return logits at the resolution of targets, which is theirs or a higher one."""
    shapes = f"logits are {list(logits.shape)}, targets {list(targets.shape)}"
    if logits.dim() != 4 or targets.dim() != 3 or len(logits) != len(targets):
        raise ValueError(f"{shapes}, needed are [n, classes, height, width] and [n, height, width]")
    if targets.is_floating_point() or targets.is_complex():
        raise ValueError(f"targets are {targets.dtype}, needed are classes as whole numbers")
    if any(own > wanted for own, wanted in zip(logits.shape[2:], targets.shape[1:], strict=True)):
        raise ValueError(f"{shapes}, needed are equal heights and widths, or those of logits smaller")
    if logits.shape[2:] == targets.shape[1:]:
        return logits
    return F.interpolate(logits, targets.shape[1:], mode="bilinear", align_corners=False)


def _loss(logits: Tensor, targets: Tensor, *, classes: int, ignored: int) -> Tensor:
    resized = _resized(logits, targets)
    if logits.size(1) < classes:
        raise ValueError(f"logits are {list(logits.shape)}, needed are those of {classes} classes")
    # the mean of no pixel is NaN
    total = F.cross_entropy(resized, targets, ignore_index=ignored, reduction="sum")
    return total / (targets != ignored).sum().clamp(min=1)


def _accuracy(logits: Tensor, targets: Tensor, *, ignored: int) -> tuple[Tensor, Tensor]:
    """Return each image's share of right pixels [n], and how many pixels count [n]."""
    right = (_resized(logits, targets).argmax(1) == targets) & (targets != ignored)
    counts = (targets != ignored).flatten(1).sum(1)
    return right.flatten(1).sum(1) / counts.clamp(min=1), counts


def _most_frequent(like: Tensor, targets: Tensor, *, ignored: int) -> Tensor:
    """Return for every pixel the logits of the classes' frequencies, [classes, h, w]."""
    counts = torch.bincount(targets[targets != ignored], minlength=like.size(1)) + 1.0
    return (counts / counts.sum()).log()[:, None, None].expand(like.shape[1:])


def _check(batches: Sequence[Tensor], *, classes: int, ignored: int) -> None:
    """Raise if the targets of all batches are no classes, or all of one; say which classes do not occur."""
    found = torch.zeros(classes, dtype=torch.int64)
    for targets in batches:
        if targets.is_floating_point() or targets.is_complex() or targets.dim() != 3:
            shape = list(targets.shape)
            raise PruningError(f"targets are {targets.dtype} of shape {shape}, needed are classes [n, height, width]")
        labels = targets[targets != ignored].cpu().long()
        try:
            _check_range(labels, classes)
        except ValueError as error:
            raise PruningError(f"{error}; other labels are ignored as task.ignore_label={ignored}") from None
        found += torch.bincount(labels, minlength=classes)
    there = int(found.count_nonzero())
    if there < 2:
        which = f"all pixels are of class {int(found.argmax())}" if there else f"all pixels are ignored ({ignored})"
        raise PruningError(f"{which}, needed are two classes at least")
    if there < classes:
        missing = ", ".join(map(str, (found == 0).nonzero().flatten().tolist()))
        log.warning("task: no pixel of validation is of class %s; the mean IoU is of the other %d", missing, there)


def _check_range(labels: Tensor, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"a label is {int(wrong[0])}, allowed are 0 to {classes - 1}")
