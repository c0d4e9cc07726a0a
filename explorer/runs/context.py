"""What a language model can read: which tokens, and how many at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from explorer.data import Data
from spaces.errors import PruningError

__all__ = ["check_tokens"]


def check_tokens(model: nn.Module, data: Data, held: int | None) -> None:
    """Check that a model of transformers knows the tokens of a data set, and reads sequences as long as these.

    So long must be those of `held` tokens too, whose keys and values it holds.

    Nothing is checked of other models and other data.

    Raises
    ------
    PruningError
        If a token is beyond the model's vocabulary, or the sequences are longer than its context.
    """
    config: Any = getattr(model, "config", None)
    inputs = data.train.inputs
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    if config is None or not isinstance(ids, Tensor):
        return
    known, context = getattr(config, "vocab_size", None), getattr(config, "max_position_embeddings", None)
    largest = max(int(split.inputs["input_ids"].max()) for split in (data.train, data.validation, data.test))
    if isinstance(known, int) and largest >= known:
        raise PruningError(
            f"data.tokenizer: it makes token {largest}, and the model knows 0 to {known - 1}; give the model's own"
        )
    if isinstance(context, int) and ids.shape[1] > context:
        raise PruningError(f"data.length: {ids.shape[1]}, allowed is the model's context of {context} tokens at most")
    if isinstance(context, int) and held is not None and held > context:
        raise PruningError(f"context.tokens: {held}, allowed is the model's context of {context} at most")
