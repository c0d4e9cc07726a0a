"""Runs a masked layer as what it is, so that latency is measured and not guessed."""

from __future__ import annotations

from explorer.pruning.sparse.execution import Executed, Note, execute

__all__ = ["Executed", "Note", "execute"]
