"""Predictions: what a loss takes of a model's output, how far it is from targets, and the constant prediction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

__all__ = ["constant", "in_single_precision", "prediction", "squared_error", "wrong"]


def prediction(output: Any) -> Any:
    """Return what a loss takes of a model's output: its ``logits`` where it has them, else the output itself.

    Models of transformers return an object with logits, those of torchvision with auxiliary heads a tuple with
    them; of any other tuple or list the first entry is taken.
    """
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    return output[0] if isinstance(output, tuple | list) and output else output


def wrong(logits: Tensor, labels: Tensor) -> Tensor:
    """Return for each input whether its class, the greatest of the logits [n, classes], is wrong."""
    return (logits.argmax(1) != labels).to(torch.float32)


def squared_error(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return for each input the mean squared difference of its predictions [n, ...] and targets of that shape.

    Raises
    ------
    ValueError
        If the shapes differ: broadcast against each other, every input would be compared with every other.
    """
    if predictions.shape != targets.shape:
        raise ValueError(f"predictions are {list(predictions.shape)}, targets {list(targets.shape)}")
    return (predictions - targets).square().reshape(len(targets), -1).mean(1)


def constant(like: Any, targets: Tensor) -> Tensor:
    """Return what to predict for every input, knowing the targets only: their mean, or a logit a class."""
    if targets.is_floating_point():
        if like.shape[1:] != targets.shape[1:]:
            raise ValueError(f"predictions are {list(like.shape)}, targets {list(targets.shape)}")
        return targets.mean(0)
    if targets.dim() != 1 or like.dim() != 2:
        raise ValueError(f"predictions are {list(like.shape)}, targets {list(targets.shape)}")
    # one of each class more, so that a class that calibration lacks has a loss
    counts = torch.bincount(targets, minlength=like.size(1)) + 1.0
    return (counts / counts.sum()).log()


def in_single_precision(predictions: Any) -> Any:
    """Return predictions of half precision as float32, in which losses are computed."""
    half = (torch.float16, torch.bfloat16)
    return tree_map(lambda t: t.float() if isinstance(t, Tensor) and t.dtype in half else t, predictions)
