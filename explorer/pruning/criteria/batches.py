"""The training batches that a criterion sees."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch

from explorer.data import Batch, draw
from explorer.pruning.criteria.options import Options
from spaces import PruningError

__all__ = ["scoring_batches"]


def scoring_batches(loader: Iterable[Any], options: Options) -> list[Batch]:
    """Return the batches of a user's loader that a criterion sees; none where it needs no data.

    With the seed 0 they are the first; other seeds draw as many at random.

    Raises
    ------
    PruningError
        As `explorer.data.draw`, or if a seed other than 0 meets a loader without a length.
    """
    if not options.needs_data:
        return []
    if options.seed == 0:
        return draw(loader, options.batches, key="train")
    try:
        count = len(loader)  # type: ignore[arg-type]
    except TypeError:
        kind = type(loader).__name__
        raise PruningError(
            f"criterion.seed: {options.seed} draws any batches of train, and this {kind} has no length; allowed is 0"
        ) from None
    generator = torch.Generator().manual_seed(options.seed)
    chosen = set(torch.randperm(count, generator=generator)[: options.batches].tolist())
    batches = enumerate(islice(loader, max(chosen, default=-1) + 1))
    return draw([batch for number, batch in batches if number in chosen], key="train")
