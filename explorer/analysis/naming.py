"""Naming: what the model and the space of a configuration are called, in folders, titles and tables alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["model_name", "space_name"]


def model_name(config: Mapping[str, Any]) -> str:
    """Return what the model is called in names and titles: its choice, of a library's many models also which."""
    model = config["model"]
    # some are folders
    which = [Path(str(model["architecture"])).name] if "architecture" in model else []
    return "-".join([str(model["name"]), *which])


def space_name(config: Mapping[str, Any]) -> str:
    """Return what the space is called: its choice, or the file's name."""
    space = config["space"]
    return Path(str(space["path"])).stem if "path" in space else str(space["name"])
