"""What a person sees of long work."""

from __future__ import annotations

import pytest

from explorer.utils import console
from explorer.utils.console import Told


def test_long_readings_are_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_PAUSE", -1)
    items = Told("read", [1, 2])
    assert (list(items), len(items), capsys.readouterr().err) == ([1, 2], 2, "")
    monkeypatch.setattr(console, "_LONG", -1)
    assert list(items) == [1, 2]
    assert [line.partition(",")[0] for line in capsys.readouterr().err.splitlines()] == ["read: 1 of 2", "read: 2 of 2"]
