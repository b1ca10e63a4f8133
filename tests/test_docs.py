"""docs/ and README.md: every link and every picture leads somewhere, and every page is linked to."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK: Final = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    """Return a page without its examples, which may look like links."""
    return re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


LINKS: Final = [
    (page, *found) for page in PAGES for found in LINK.findall(text_of(page)) if not found[2].startswith("https://")
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for source, _, _, target in LINKS:
        if source == page:
            path, _, anchor = target.partition("#")
            found = (page.parent / path).resolve() if path else page
            assert found.exists(), target
            if anchor:
                assert anchor in anchors(found), target


def test_pictures_say_what_they_show_and_are_all_shown() -> None:
    assert all(text for _, picture, text, _ in LINKS if picture)
    shown = {(page.parent / target).resolve() for page, picture, _, target in LINKS if picture}
    assert shown == set((ROOT / "docs/images").iterdir())


def test_every_page_is_linked_to() -> None:
    linked = {(page.parent / target.partition("#")[0]).resolve() for page, _, _, target in LINKS}
    folders = {page.parent for page in PAGES if page.parent in linked}
    assert [page for page in PAGES if page not in linked and page.parent not in folders] == [ROOT / "README.md"]
