"""What a person sees of long work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from explorer.utils import console
from explorer.utils.console import Told, progress


def test_work_inside_other_work_has_a_line_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    with progress("outer", 2) as outer:
        outer(1, "")
        with progress("never shown", 9), progress("inner", 3) as inner:
            inner(3, "")
        outer(2, "")
    lines = screen.getvalue().splitlines()
    assert [word for line in lines[-3:] for word in ("outer", "inner") if word in line] == ["outer", "inner"]
    assert "never shown" not in screen.getvalue()
    # nothing is left of it for what comes next
    assert not console._bars


def test_long_readings_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_PAUSE", -1)
    items = Told("read", [1, 2])
    assert (list(items), len(items), capsys.readouterr().err) == ([1, 2], 2, "")
    monkeypatch.setattr(console, "_LONG", -1)
    assert list(items) == [1, 2]
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == ["read: 1 of 2", "read: 2 of 2"]
