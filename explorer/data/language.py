"""The task of a causal language model: to predict every next token."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from explorer.data.task import Evaluation, Task
from explorer.data.tokens import IGNORED
from spaces.errors import unknown

__all__ = ["divergence", "language", "log_likelihood", "perplexity"]

# past it a perplexity says no more than its logarithm, and soon is no number
_LARGEST = 700.0


def language(metric: str = "nll") -> Task:
    """Return the task of predicting the next token.

    The loss is the mean negative log-likelihood a token. Targets are the tokens that a model reads, int64 [n, length],
    which are shifted here; those of `IGNORED` are not predicted. Standard errors are those of sequences, whose tokens
    are not independent. What is shown beside is the ``perplexity``; the trivial predictor knows how frequent each token
    is in the calibration sequences.

    Parameters
    ----------
    metric
        What is minimised: ``nll``, the loss, or ``kl``, the Kullback-Leibler divergence from the dense network, which
        fewer tokens tell as surely, and for which the dense network is run beside every other.

    Raises
    ------
    PruningError
        If the metric is another.
    """
    if metric not in _METRICS:
        raise unknown("task.metric", metric, _METRICS)
    function, name = _METRICS[metric]
    return Task(
        _mean_nll,
        function,
        name,
        "nats a token",
        higher_is_better=False,
        constant=unigram,
        views={"perplexity": perplexity},
        class_dim=-1,
        against_dense=metric == "kl",
    )


def log_likelihood(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return each sequence's mean negative log-likelihood a token [n] in nats, and how many tokens that is of [n].

    Parameters
    ----------
    logits
        Of the token after each, [n, length, vocabulary].
    targets
        The tokens, [n, length].

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    sums, counts = _nll(logits, targets)
    return sums / counts.clamp(min=1), counts


def divergence(logits: Tensor, targets: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return each sequence's mean divergence a token [n] from the dense network, and how many tokens that is of [n].

    Parameters
    ----------
    logits
        Of the token after each, [n, length, vocabulary].
    targets
        The tokens, [n, length], and the dense network's logits.
    """
    labels, dense = targets
    predicted = labels[:, 1:] != IGNORED
    sums = [
        F.kl_div(own[:-1].log_softmax(-1), theirs[:-1].log_softmax(-1), reduction="none", log_target=True).sum(-1)[at]
        for own, theirs, at in zip(logits, dense, predicted, strict=True)
    ]
    counts = predicted.sum(1)
    return torch.stack([each.sum() for each in sums]) / counts.clamp(min=1), counts


def perplexity(evaluation: Evaluation) -> float:
    """Return the exponential of the mean negative log-likelihood a token."""
    return math.exp(min(evaluation.loss, _LARGEST))


def unigram(like: Tensor, targets: Tensor) -> Tensor:
    """Return the logits of predicting each token by its frequency, for every place: [length, vocabulary].

    Tokens that are not there share as much as there are different ones (Witten and Bell 1991), so that a vocabulary
    that is larger than the sample is not taken for equally likely.

    Parameters
    ----------
    like
        A prediction, [n, length, vocabulary].
    targets
        Tokens, of any shape.
    """
    counts = torch.bincount(targets[targets != IGNORED].flatten(), minlength=like.size(-1)).double()
    different = float(counts.count_nonzero())
    shares = (counts + different / len(counts)) / (counts.sum() + different)
    return shares.log().to(like.dtype if like.dtype == torch.float64 else torch.float32).expand(like.shape[1:])


def _mean_nll(logits: Tensor, targets: Tensor) -> Tensor:
    sums, counts = _nll(logits, targets)
    return sums.sum() / counts.sum().clamp(min=1)


_METRICS = {
    "nll": (log_likelihood, "negative log-likelihood"),
    "kl": (divergence, "divergence from the dense network"),
}


def _nll(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the negative log-likelihoods of each sequence's tokens, and their count."""
    if logits.dim() != 3 or logits.shape[:2] != targets.shape:
        raise ValueError(f"logits are {list(logits.shape)}, targets {list(targets.shape)}")
    wanted = targets[:, 1:]
    # one sequence after the other: the vocabulary's probabilities take as much memory as the logits
    each = [
        F.cross_entropy(own[:-1], labels, ignore_index=IGNORED, reduction="sum")
        for own, labels in zip(logits, wanted, strict=True)
    ]
    return torch.stack(each), (wanted != IGNORED).sum(1)
