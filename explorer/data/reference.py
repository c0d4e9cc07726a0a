"""Reference: the dense network, with which others are compared, and what it predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Reference"]

# bytes of predictions that are kept
_MOST = 1 << 30


class Reference:
    """A network that stays as it is, and its predictions for batches that stay in memory, up to a gigabyte of them.

    Examples
    --------
    >>> import torch
    >>> reference = Reference(nn.Linear(2, 1))
    >>> inputs = torch.zeros(3, 2)
    >>> first, again = (reference(inputs, lambda: reference.model(inputs)) for _ in range(2))
    >>> first is again
    True
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        # of a batch that is gone its predictions are too
        self._known = WeakTensorKeyDictionary()

    def __getstate__(self) -> dict[str, Any]:
        # another process makes its own
        return {"model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["model"])  # type: ignore[misc]

    def __call__(self, inputs: Any, predicted: Callable[[], Any]) -> Any:
        """Return what `predicted` gives for inputs, or gave for the same tensor."""
        key = next((leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)), None)
        if key is not None and key in self._known:
            return self._known[key]
        found = predicted()
        kept = [*self._known.values(), found]
        if key is not None and sum(leaf.nbytes for leaf in tree_leaves(kept) if isinstance(leaf, Tensor)) <= _MOST:
            self._known[key] = found
        return found
