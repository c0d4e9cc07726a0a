"""The examples of docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.support.pages import ROOT

SOURCES = sorted([*(ROOT / "spaces").rglob("*.py"), *(ROOT / "explorer").rglob("*.py")])
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in SOURCES if ">>> " in path.read_text()]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name: str) -> None:
    module = importlib.import_module(name.removesuffix(".__init__"))
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed
