"""Distillation: how far a network's predictions are from those of its teacher."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from explorer.data.task import Task

__all__ = ["distance"]


def distance(task: Task, predictions: Any, teacher: Any, *, temperature: float) -> Tensor:
    """Return how far predictions are from a teacher's, as one number to be minimised.

    For classes it is the Kullback-Leibler divergence from the teacher's softened distribution times the squared
    temperature (Hinton et al., arXiv 1503.02531), for other tasks the mean squared difference.

    Parameters
    ----------
    task
        What the predictions are for.
    predictions, teacher
        Of the same inputs; logits where the task knows along which dimension classes lie, otherwise tensors or trees
        of tensors of equal shapes.
    temperature
        Above 0; without meaning where there are no classes.

    Raises
    ------
    ValueError
        If predictions and teacher's are no trees alike, or hold no floating-point tensor.
    """
    if (dim := 1 if task.classifies else task.class_dim) is not None:
        student, wanted = (F.log_softmax(logits.float() / temperature, dim) for logits in (predictions, teacher))
        divergence = F.kl_div(student, wanted, reduction="none", log_target=True).sum(dim)
        return divergence.mean() * temperature**2
    pairs = [
        (own.float(), wanted.float())
        for own, wanted in zip(tree_leaves(predictions), tree_leaves(teacher), strict=True)
        if isinstance(own, Tensor) and own.is_floating_point()
    ]
    shapes = [[list(leaf.shape) for leaf in pair] for pair in pairs]
    # unequal ones would be broadcast: every input compared with every other
    if not pairs or any(own != wanted for own, wanted in shapes):
        raise ValueError(f"distillation: predictions and the teacher's are of shapes {shapes}, needed are equal ones")
    losses = [F.mse_loss(own, wanted) for own, wanted in pairs]
    return sum(losses[1:], start=losses[0]) / len(losses)
