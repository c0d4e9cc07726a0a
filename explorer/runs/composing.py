"""Composing: from Hydra overrides to configurations, one a job, with every mistake in one line."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from explorer.utils.conf import GROUPS, chosen, conf, defaults, options_of, primary
from spaces import PruningError, unknown

__all__ = ["Composed", "compose", "several_values", "swept"]

Composed = dict[str, Any]
"""A configuration as plain data: every key of conf/run.yaml, and a section for each group."""


def compose(overrides: Sequence[str], *, config: str = "run", folder: Path | None = None) -> list[Composed]:
    """Return the configurations that overrides describe: one, or one a job of a multirun.

    Parameters
    ----------
    overrides
        Hydra overrides; ``key=a,b`` is a sweep.
    config
        The primary config.
    folder
        A further folder of configuration files (Hydra's ``--config-dir``).

    Raises
    ------
    PruningError
        If a key or an option is unknown, or a value is missing or cannot be parsed.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for override in overrides:
        # a key that is taken away has no value
        if not override.startswith("~") and "=" not in override:
            raise _no_override(override, config)
    if folder is not None and not folder.is_dir():
        raise PruningError(f"--config-dir: {str(folder)!r} is no folder that is there")
    extra = [f"hydra.searchpath=[file://{folder.resolve()}]"] if folder else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(conf())):
            parser = OverridesParser.create(GlobalHydra.instance().config_loader())
            choices = [
                [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
                if o.is_sweep_override()
                else [str(o.input_line)]
                for o in parser.parse_overrides(list(overrides))
            ]
            return [
                OmegaConf.to_container(  # type: ignore[misc]
                    hydra_compose(config, overrides=[*job, *extra]), resolve=True, throw_on_missing=True
                )
                for job in itertools.product(*choices)
            ]
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _readable(error, config) from None


def _no_override(word: str, config: str) -> PruningError:
    """Return what is wrong with a word that is no ``key=value``."""
    base = primary(config)
    usual: dict[str, Any] = {key: value for key, value in base.items() if isinstance(value, int)}
    usual |= {group: chosen(group) for group in (GROUPS if "defaults" in base else ())}
    meant = (difflib.get_close_matches(word, usual, n=1, cutoff=0.5) or ["seed"])[0]
    # a URL may hold a password
    shown = word.partition("://")[0]
    return PruningError(f"{shown!r}: a word without a value, allowed is key=value, such as {meant}={usual[meant]}")


def several_values(overrides: Sequence[str]) -> PruningError:
    """Return what is wrong with a run of one job whose key has several values."""
    key = swept(overrides)[0]
    values = next(override.partition("=")[2] for override in overrides if override.partition("=")[0] == key)
    return PruningError(
        f"{key}: several values for a key make a multirun, for which -m is needed; a list is {key}=[{values}]"
    )


def swept(overrides: Sequence[str]) -> list[str]:
    """Return the keys of the overrides that give several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [o.get_key_element() for o in parsed if o.is_sweep_override()]


def _readable(error: Exception, config: str) -> PruningError:
    """Turn what Hydra says into one line with the nearest spelling."""
    from hydra.errors import OverrideParseException
    from omegaconf.errors import MissingMandatoryValue

    if isinstance(error, OverrideParseException):
        # the value may hold a password
        key = str(error.override).partition("=")[0]
        return PruningError(
            f"{key}: its value can't be read, allowed is key=value; brackets are closed, and a value with commas or "
            "blanks is quoted itself"
        )
    if isinstance(error, MissingMandatoryValue):
        return PruningError(f"{error.full_key}: not given, and needed by this choice")
    text = "\n".join(str(part) for part in (error, error.__cause__) if part is not None)
    patterns: list[tuple[str, Callable[[re.Match[str]], PruningError]]] = [
        (r"Could not find '([^'/]+)/([^']+)'", lambda m: unknown(m[1], m[2], options_of(m[1]))),
        (r"Could not override '([^']+)'", lambda m: _no_key(config, m[1])),
        (r"Key '([^']+)' is not in struct", lambda m: _no_key(config, m[1])),
    ]
    for pattern, make in patterns:
        if (match := re.search(pattern, text)) is not None:
            return make(match)
    return PruningError(f"config: {' '.join(text.split())[:300]}")


def _no_key(config: str, key: str) -> PruningError:
    """Return what is wrong with a key: only other options of its group have it, or it is misspelt."""
    group, _, name = key.partition(".")
    options = options_of(group) if group in GROUPS and name else []
    if having := [option for option in options if name in defaults(f"{group}/{option}")]:
        return PruningError(f"key: {key!r} is one of {group}={', '.join(having)} only")
    return unknown("key", key, _keys(config, key))


def _keys(config: str, near: str) -> list[str]:
    """Return the keys of the same depth as `near`: top-level ones, or those inside its group."""
    base = primary(config)
    group, _, rest = near.partition(".")
    groups = GROUPS if "defaults" in base else ()
    if not rest or (group not in groups and not isinstance(base.get(group), dict)):
        return [key for key in (*base, *groups) if key not in ("defaults", "hydra")]
    if group in groups:
        found: dict[str, None] = {}
        for option in options_of(group):
            found |= dict.fromkeys(f"{group}.{key}" for key in defaults(f"{group}/{option}"))
        return sorted(found)
    return [f"{group}.{key}" for key in base[group]]
