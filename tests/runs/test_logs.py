"""What a command says while it works."""

from __future__ import annotations

import logging

import pytest

from explorer.runs.logs import steps_shown
from explorer.utils.console import steps


def test_steps_are_shown_whatever_else_is_logged(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # as it is in a process that made no run before
    monkeypatch.setattr(logging.getLogger("explorer"), "level", logging.WARNING)
    steps.manager._clear_cache()  # type: ignore[attr-defined]
    with steps_shown():
        steps.info("solving %d layers", 2)
    steps.info("not shown")
    assert capsys.readouterr().out == "solving 2 layers ...\n"
