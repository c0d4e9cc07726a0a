"""The folder conf/: its groups, their options, and the sections that they and conf/run.yaml describe.

The YAML files are the one place of defaults: what a caller leaves out is taken from there, by the command and from
Python alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from spaces import PruningError, unknown

__all__ = ["GROUPS", "chosen", "conf", "defaults", "named_section", "options_of", "primary", "run_section"]

GROUPS = ("model", "data", "task", "space", "criterion", "evaluator", "sampler", "executor", "storage")
"""The groups, each a folder of options of which a run has one."""


def conf() -> Path:
    """Return the folder of the configuration files."""
    import explorer.conf

    return Path(explorer.conf.__path__[0]).resolve()


def options_of(group: str) -> list[str]:
    """Return the names of a group's options."""
    return sorted(path.stem for path in (conf() / group).glob("*.yaml"))


def defaults(name: str) -> dict[str, Any]:
    """Return the content of a configuration file, such as ``run`` or ``executor/local``."""
    return dict(_content(conf() / f"{name}.yaml"))


def primary(name: str) -> dict[str, Any]:
    """Return the content of a primary config, with that of conf/run.yaml where it is built on it."""
    own = defaults(name)
    return {**(defaults("run") if "run" in own.get("defaults", ()) else {}), **own}


def chosen(group: str) -> str:
    """Return the option of a group that a run has where none is given."""
    return next(entry[group] for entry in defaults("run")["defaults"] if group in entry)


@cache
def _content(path: Path) -> Mapping[str, Any]:
    return yaml.safe_load(path.read_text())


def named_section(group: str, given: str | Mapping[str, Any], *, refused: Collection[str] = ()) -> dict[str, Any]:
    """Return the section that an option of a group makes, given by its name or by ``name`` and what differs.

    Parameters
    ----------
    group
        One of `GROUPS`.
    given
        What the caller says; other keys have the values of conf/.
    refused
        Keys that the caller has another way to say.

    Raises
    ------
    PruningError
        If the name or a key is unknown, or a key is needed and not given.
    """
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.get("name")
    if name not in options_of(group):
        raise unknown(group, str(name), options_of(group))
    section = _filled(group, defaults(f"{group}/{name}"), options, refused)
    for key, value in section.items():
        if value == "???":
            raise PruningError(f"{group}.{key}: not given, and needed by {name}")
    return section


def run_section(name: str, given: Mapping[str, Any], *, refused: Collection[str] = ()) -> dict[str, Any]:
    """Return a section of conf/run.yaml with what differs, as `named_section` does.

    Raises
    ------
    PruningError
        If a key is unknown.
    """
    return _filled(name, defaults("run")[name], given, refused)


def _filled(group: str, known: Mapping[str, Any], given: Mapping[str, Any], refused: Collection[str]) -> dict[str, Any]:
    allowed = [key for key in known if key not in refused]
    for key in given:
        if key not in allowed:
            raise unknown(group, key, allowed)
    return {**known, **given}
