"""How runs were made: the command, the versions, the machine and the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from explorer.analysis.report.command import command_of
from explorer.analysis.studies import StudyResult

__all__ = ["how_made"]

_LABELS = {
    "machine": "architecture", "threads": "threads", "torch": "torch", "network": "network's identity",
    "data_identity": "data's identity",
}  # fmt: skip


def how_made(result: StudyResult, series: str) -> dict[str, Any]:
    """Return what makes a run again: ``name``, ``command``, ``facts`` as pairs of text, and ``config`` as YAML."""
    given = {key: value for key, value in result.config.items() if key not in ("identity", "facts")}
    facts = result.config["facts"]
    pairs = [("folder", str(result.folder))]
    if (written := result.folder.written) is not None:
        pairs.append(("ended", datetime.fromtimestamp(written, UTC).strftime("%Y-%m-%d %H:%M UTC")))
    for key in ("versions", "hardware"):
        if isinstance(found := facts.get(key), Mapping):
            pairs.append(
                (key, ", ".join(f"{name} {value}" for name, value in found.items() if value not in (None, "")))
            )
    pairs += [(label, str(facts[key])) for key, label in _LABELS.items() if key in facts]
    try:
        command = command_of(given)
    except (KeyError, TypeError, AttributeError):
        command = "(the configuration is of another version)"
    return {
        "name": f"{result.name} ({series}, seed {result.seed})",
        "command": command,
        "facts": pairs,
        "config": yaml.safe_dump(given, sort_keys=False),
    }
