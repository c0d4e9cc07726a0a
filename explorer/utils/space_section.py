"""The section ``space`` of a configuration: a choice of conf/space, a file, or what a user's function returns."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from explorer.utils.checks import checked_number
from explorer.utils.conf import conf, options_of
from explorer.utils.instantiate import called, locate
from spaces import PruningError, Recipe, first_line, unknown

__all__ = ["named_space", "recipe_given", "space_of"]

# keys of conf/space that the lists below them are made of
_KNOBS = ("name", "match", "ratios", "channel_ratios", "width", "height", "delta", "n", "m", "per")


def named_space(name: str) -> Mapping[str, Any]:
    """Return a space of conf/space by its name, or the one in a file whose name ends in .yaml.

    Raises
    ------
    PruningError
        If there is none of that name.
    """
    if name.endswith((".yaml", ".yml")):
        return space_of({"path": name})
    names = [option for option in options_of("space") if option not in ("file", "custom")]
    if name not in names:
        raise unknown("space", name, names)
    return space_of({"path": conf() / "space" / f"{name}.yaml"})


def space_of(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the space's own keys: those of the section, of the file it names, or of what its function returns.

    A divisor or a tie beside the file's path takes the place of the file's; ``around`` is as in a space file.

    Raises
    ------
    PruningError
        If a file is not there, is no YAML mapping or recipe, or refers to anything but its own keys; if the function
        can't be imported, raises, or returns anything else.
    """
    space: Mapping[str, Any] = {key: value for key, value in section.items() if key not in ("around", "radius")}
    near, middle = {}, section.get("around")
    # also where no recipe is near which it could hold
    checked_number("space.radius", section.get("radius", 0), least=0)
    if isinstance(middle, Mapping) and "recipe" in middle:
        near["around"] = middle
    elif middle is not None:
        near["around"] = {"recipe": recipe_given("space.around", middle), "radius": section.get("radius")}
    if "_target_" in section:
        arguments = {key: value for key, value in space.items() if key not in ("name", "_target_")}
        space = called("space", locate("space._target_", section["_target_"]), arguments)
        if not isinstance(space, Mapping):
            raise PruningError(
                f"space._target_: {section['_target_']!r} returns a {type(space).__name__}, needed is a mapping with "
                "channels, weights or blocks"
            )
    elif "path" in section:
        path = Path(str(section["path"]))
        try:
            space = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise PruningError(f"space.path: {str(path)!r} can't be read ({reason})") from None
        except yaml.YAMLError as error:
            raise PruningError(f"space.path: {str(path)!r} is no YAML ({first_line(error)})") from None
        if not isinstance(space, Mapping):
            raise PruningError(f"space.path: {str(path)!r} holds no mapping with channels, weights or blocks")
        beside = {key: section[key] for key in ("divisor", "tie") if section.get(key) is not None}
        space = {**_resolved(space, space, path), **beside}
    return {key: value for key, value in space.items() if key not in _KNOBS} | near


def recipe_given(key: str, given: Any) -> dict[str, Any]:
    """Return the recipe that a file holds, or a mapping is, as a mapping.

    Raises
    ------
    PruningError
        If it is none; `key` is what the user called it.
    """
    try:
        if isinstance(given, Mapping):
            return Recipe.from_dict(given).to_dict()
        return Recipe.load(str(given)).to_dict()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise PruningError(f"{key}: {str(given)!r} can't be read ({reason})") from None
    except PruningError as error:
        raise PruningError(f"{key}: {str(given)[:200]!r} holds no recipe ({error})") from None


def _resolved(value: Any, space: Mapping[str, Any], path: Path, depth: int = 0) -> Any:
    """Return part of a space file with references such as ``${space.ratios}`` replaced.

    Nothing else is a reference: a file of somebody else's is no way to the environment.
    """
    if isinstance(value, Mapping):
        return {key: _resolved(entry, space, path, depth) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolved(entry, space, path, depth) for entry in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    found = re.fullmatch(r"\$\{space\.(\w+)\}", value)
    if found is None or found[1] not in space:
        allowed = ", ".join(f"${{space.{key}}}" for key in space)
        raise PruningError(f"space.path: {str(path)!r} refers to {value!r}, allowed are {allowed}")
    if depth > len(space):
        raise PruningError(f"space.path: {str(path)!r}: {value!r} refers to itself")
    return _resolved(space[found[1]], space, path, depth + 1)
