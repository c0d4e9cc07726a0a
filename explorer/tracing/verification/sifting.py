"""Which units and blocks pass a check together, with as few checks as possible.

What fails usually fails in every layer alike. So items are sorted into kinds by their names without numbers, kinds are
bisected, and of a kind that fails a few stand for all where they fail alone and alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from spaces import BlockUnit, ChannelUnit

__all__ = ["Item", "sifted"]

Item = ChannelUnit | BlockUnit
T = TypeVar("T")

# so many items of a kind stand for all of it
_SAMPLES = 3


def sifted(check: Callable[[Sequence[Item]], str | None], items: list[Item]) -> tuple[list[Item], dict[Item, str]]:
    """Return the items that pass `check` together, in their order, and the reason for each other one.

    Parameters
    ----------
    check
        Why some items fail together, or None.
    items
        Units and blocks.
    """
    kinds: dict[str, list[Item]] = {}
    for item in items:
        kinds.setdefault(_kind(item), []).append(item)

    def check_kinds(some: Sequence[str]) -> str | None:
        return check([item for kind in some for item in kinds[kind]])

    passed, failed = _bisected(check_kinds, list(kinds))
    good, bad = [item for kind in passed for item in kinds[kind]], dict[Item, str]()
    for kind in failed:
        more, worse = _of_kind(check, good, kinds[kind])
        good += more
        bad |= worse
    return [item for item in items if item not in bad], bad


def _kind(item: Item) -> str:
    """Return the name of an item without numbers, and of a unit those of all layers that write it."""
    names = {item.name, *(item.writers if isinstance(item, ChannelUnit) else ())}
    return " ".join([type(item).__name__, *sorted({re.sub(r"\d+", "#", name) for name in names})])


def _of_kind(
    check: Callable[[Sequence[Item]], str | None], beside: list[Item], items: list[Item]
) -> tuple[list[Item], dict[Item, str]]:
    """Return the items of one kind that pass beside others that do, and the reason for each other one."""

    def check_beside(some: Sequence[Item]) -> str | None:
        return check([*beside, *some])

    if len(items) > _SAMPLES:
        places = [place * (len(items) - 1) // (_SAMPLES - 1) for place in range(_SAMPLES)]
        reasons = {items[place]: check_beside([items[place]]) for place in places}
        if None not in reasons.values() and len({_shape(str(reason)) for reason in reasons.values()}) == 1:
            first = items[places[0]]
            like = f"like {first.name}: {reasons[first]}"
            return [], {item: str(reasons.get(item, like)) for item in items}
    return _bisected(check_beside, items)


def _shape(reason: str) -> str:
    """Return a reason without its numbers."""
    return re.sub(r"[-\d.e]*\d", "#", reason)


def _bisected(check: Callable[[Sequence[T]], str | None], items: list[T]) -> tuple[list[T], dict[T, str]]:
    """Return the items that pass together, and the reason for each other one."""
    reason = check(items) if items else None
    if reason is None:
        return items, {}
    if len(items) == 1:
        return [], {items[0]: reason}
    middle = len(items) // 2
    good, bad = _bisected(check, items[:middle])
    more, worse = _bisected(check, items[middle:])
    bad |= worse
    if not good or not more or check(good + more) is None:
        return good + more, bad
    for item in more:
        reason = check([*good, item])
        if reason is None:
            good = [*good, item]
        else:
            bad[item] = f"together with others: {reason}"
    return good, bad
