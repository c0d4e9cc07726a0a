"""How Sphinx builds the pages: sources are read from the repository's root, so that links hold there and here alike."""

from __future__ import annotations

import inspect
from importlib.metadata import version as version_of
from typing import Any

project = "pruning-spaces"
author = "The pruning-spaces authors"
version = release = version_of("pruning-spaces")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/**", "results/reference/**", "CHANGELOG.md", "CONTRIBUTING.md"]
exclude_patterns = ["docs/_build", ".venv", ".git", ".*_cache", "explorer", "spaces", "tests", "conf", "build"]

html_theme = "furo"
html_title = "pruning-spaces"
html_show_sphinx = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["page.css"]

# blocks without a language are commands
highlight_language = "text"

# anchors of headings, to which other pages link
myst_heading_anchors = 3

# docstrings name things in single backticks
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"


def skipped(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Return True for functions that are the default of a dataclass's field, and no methods of it."""
    field = what == "class" and inspect.isfunction(obj) and "." not in obj.__qualname__
    return True if field else None


def setup(app: Any) -> None:
    """Tell Sphinx of `skipped`."""
    app.connect("autodoc-skip-member", skipped)
