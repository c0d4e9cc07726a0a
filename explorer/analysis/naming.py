"""Naming: what the model and the space of a configuration are called, in folders, titles and tables alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from spaces import PARTS

__all__ = ["axis_names", "model_name", "space_name"]


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


def axis_names(labels: Iterable[str]) -> list[str]:
    """Return axes' labels without the part of a space where all have the same, as they stand beside a figure."""
    given = list(labels)
    parts = {label.partition(".")[0] if "." in label else "" for label in given}
    cut = len(parts) == 1 and parts <= {*PARTS}
    return [label.partition(".")[2] if cut else label for label in given]
