"""Every link and picture of the pages leads somewhere."""

from __future__ import annotations

import pytest

from tests.support.pages import NAMES, ROOT, anchors, links


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files_and_headings_that_are_there(name: str) -> None:
    page = ROOT / name
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name}: {path}"
        if anchor:
            assert anchor in anchors(target), f"{name}: {path}#{anchor}"


def test_every_page_is_reached_from_the_readme_and_the_index() -> None:
    pages = {name.removeprefix("docs/") for name in NAMES if name.startswith("docs/")} - {"index.md"}
    index = (ROOT / "docs" / "index.md").read_text().splitlines()
    assert pages == {f"{line}.md" for line in index} & pages
    readme = {path.removeprefix("docs/") for path, _ in links(ROOT / "README.md")}
    # the index has a list of the figures, the README their folder
    assert pages - {"reference.md"} <= readme
