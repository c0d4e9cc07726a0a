"""The shape of a configuration: every key that something reads, and no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from explorer.evaluation.settings import BATCH_SIZE
from explorer.runs.composing import Composed
from explorer.utils.conf import GROUPS, defaults, options_of, primary
from spaces import PruningError, unknown

__all__ = ["check_keys", "filled"]

# groups whose options name a function of the user's or ours, which has arguments of its own
_OPEN = ("model", "data", "task", "space")
# inputs a forward pass by task: a vocabulary's logits of every token are hundreds of megabytes soon
_SIZES = {"language": 8}


def check_keys(given: Composed) -> None:
    """Check that a configuration has the keys of conf/ and no other.

    Raises
    ------
    PruningError
        If an override added a key where nothing reads it, or removed one where something does.
    """
    base = primary("population" if "regime" in given else "run")
    sections = [key for key, value in base.items() if isinstance(value, dict) and key not in ("hydra", *GROUPS)]
    _same_keys("", given, list(dict.fromkeys(key for key in (*base, *GROUPS) if key not in ("defaults", "hydra"))))
    for section in (*GROUPS, *sections):
        if not isinstance(given[section], Mapping):
            raise PruningError(f"{section}: {given[section]!r}, allowed is a section of keys")
    for section in sections:
        _same_keys(f"{section}.", given[section], list(base[section]))
    for group in GROUPS:
        _check_group(group, given[group])


def filled(given: Composed) -> Composed:
    """Return a configuration with what null stands for where that depends on other sections."""
    evaluator, task = given["evaluator"], given["task"]["name"]
    if evaluator["batch_size"] is not None:
        return given
    return {**given, "evaluator": {**evaluator, "batch_size": _SIZES.get(task, BATCH_SIZE)}}


def _same_keys(prefix: str, given: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in given:
        if key not in allowed:
            raise unknown("key", f"{prefix}{key}", [f"{prefix}{name}" for name in allowed])
    for key in allowed:
        if key not in given:
            raise PruningError(f"{prefix}{key}: not given, and needed")


def _check_group(group: str, section: Mapping[str, Any]) -> None:
    name = section.get("name")
    if not isinstance(name, str):
        raise PruningError(f"{group}.name: {name!r}, allowed is a word")
    # the function of a criterion has arguments too
    if group in _OPEN or (group, name) == ("criterion", "custom"):
        return
    if name not in options_of(group):
        raise unknown(group, name, options_of(group))
    _same_keys(f"{group}.", section, list(defaults(f"{group}/{name}")))
