"""The pages build without a warning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pages import NAMES, ROOT

pytest.importorskip("sphinx")
pytest.importorskip("myst_parser")
pytest.importorskip("furo")


@pytest.mark.slow
def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-c", "docs", "-d", str(tmp_path / "trees")]
    done = subprocess.run([*words, ".", str(tmp_path / "html")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        if name != "README.md":
            assert (tmp_path / "html" / name).with_suffix(".html").exists(), name
    api = (tmp_path / "html" / "docs" / "api.html").read_text()
    import explorer
    import spaces

    assert [name for name in (*explorer.__all__, *spaces.__all__) if f">{name}<" not in api] == []
