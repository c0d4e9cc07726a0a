"""Command: the line that makes a run again, told from its configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from explorer.utils.conf import GROUPS, chosen, defaults, options_of, primary

__all__ = ["command_of", "overrides_of"]

# how runs that were not named are called
_HASHED = re.compile(r"-s\d+-[0-9a-f]{8}$")
# plain words of Hydra's grammar
_PLAIN = re.compile(r"[A-Za-z0-9_./@*?-]+")
# what Hydra would read as another value
_WORDS = re.compile(r"(?i)null|true|false|nan|inf|[+-]?[\d_.]+(e[+-]?\d+)?|~.*")


def command_of(config: Mapping[str, Any]) -> str:
    """Return the line of the shell that makes a run again: ``explore run`` with what differs from conf/."""
    word = "population" if "regime" in config else "run"
    return " ".join(["explore", word, *map(shlex.quote, overrides_of(config))])


def overrides_of(config: Mapping[str, Any]) -> list[str]:
    """Return the overrides that make a configuration from conf/, a group before its keys.

    Parameters
    ----------
    config
        As a run writes it, or any composed one; its ``identity`` and ``facts`` are no part of it.
    """
    base = primary("population" if "regime" in config else "run")
    usual = {group: chosen(group) for group in GROUPS}
    if "regime" in config:
        usual |= _overridden(defaults("population"))
    parts: list[str] = []
    for group in GROUPS:
        section = config[group]
        name = str(section["name"])
        if name != usual[group]:
            parts.append(f"{group}={name}")
        # an option of a folder of the user's is not known here
        known = defaults(f"{group}/{name}") if name in options_of(group) else section
        # keys that all options of a group have stand in the primary file
        known = {**known, **base[group]} if isinstance(base.get(group), Mapping) else known
        parts += _keys(group, section, known)
    for key, value in config.items():
        if key in (*GROUPS, "identity", "facts", "defaults", "hydra"):
            continue
        if key == "name":
            if value is not None and not _HASHED.search(str(value)):
                parts.append(f"name={_value(value)}")
        elif isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            parts += _keys(key, value, base[key])
        elif value != base.get(key) and not _derived(base.get(key)):
            parts.append(f"{key}={_value(value)}")
    return parts


def _overridden(own: Mapping[str, Any]) -> dict[str, str]:
    """Return the groups that a primary config chooses otherwise than conf/run.yaml."""
    entries = [entry for entry in own["defaults"] if isinstance(entry, Mapping)]
    pairs = [(key.removeprefix("override "), value) for entry in entries for key, value in entry.items()]
    return {group: str(value) for group, value in pairs if group in GROUPS}


def _keys(group: str, section: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[str]:
    for key, value in section.items():
        if key == "name" or (key in known and (value == known[key] or _derived(known[key]))):
            continue
        yield f"{'' if key in known else '+'}{group}.{key}={_value(value)}"


def _derived(value: Any) -> bool:
    """Return whether a default is made of other keys, which say it."""
    return "${" in str(value)


def _value(value: Any) -> str:
    """Return a value in Hydra's grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_value(key)}:{_value(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_value, value)) + "]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and not _WORDS.fullmatch(text):
        return text
    # within quotes a backslash counts only before a quote
    return '"' + re.sub(r'(\\*)"', r'\1\1\\"', text) + '"'
