"""Executors: where evaluations run."""

from explorer.executors.inline import Inline

__all__ = ["Inline"]
