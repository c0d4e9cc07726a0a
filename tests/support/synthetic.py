"""Networks written down rather than traced, for tests that need no torch model."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st

from spaces import ChannelUnit, Dim, Layer, Network, PruningSpace, Span, Tensor


def chain(widths: Sequence[int], *, positions: int = 1, groups: int = 1, name: str = "chain") -> Network:
    """Return linear layers one after the other, all but the last of which can be pruned."""
    units = tuple(ChannelUnit(f"l{i}", width, 1, groups, (f"l{i}",)) for i, width in enumerate(widths[:-1]))
    tensors, layers = [], []
    for i, width in enumerate(widths):
        rows = Span(f"l{i}", 0, width) if i < len(widths) - 1 else Span(None, 0, width)
        read = Span(f"l{i - 1}", 0, widths[i - 1]) if i else Span(None, 0, 3)
        tensors.append(Tensor(f"l{i}.weight", (Dim((rows,)), Dim((read,), reads=True))))
        tensors.append(Tensor(f"l{i}.count", (), 8, parameter=False))
        layers.append(Layer(f"l{i}", "linear", f"l{i}.weight", positions))
    return Network(name, units, tensors=tuple(tensors), layers=tuple(layers))


def config(ratios: Sequence[float], match: str = "*", **others: object) -> dict[str, object]:
    """Return a space file with one entry."""
    return {"channels": [{"match": match, "choices": [{"granularity": "filter", "ratios": list(ratios)}]}], **others}


def space_of(network: Network, ratios: Sequence[float]) -> PruningSpace:
    """Return the space that offers `ratios` on every unit."""
    return PruningSpace.from_config(network, config(ratios))


RATIOS = st.lists(st.floats(0.01, 1), min_size=1, max_size=5)
SPACES = st.builds(space_of, st.lists(st.integers(1, 12), min_size=2, max_size=5).map(chain), RATIOS)
