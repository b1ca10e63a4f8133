"""proxy/reference/ops.py: what is documented exists, and the other way round."""

import re
from pathlib import Path

from proxy.ops.routes import OPERATIONS
from proxy.reference.ops import ops_api_page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "ops-api.md"
GUIDE = PAGE.parents[1] / "guides" / "operations.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text("utf-8") == ops_api_page()


def test_every_route_has_its_section_and_every_section_its_route() -> None:
    sections = set(re.findall(r"^## ([A-Z]+ /-\S*)$", PAGE.read_text("utf-8"), re.MULTILINE))
    assert sections == {f"{operation.route.methods[0]} {operation.route.path}" for operation in OPERATIONS}


def test_every_link_within_the_page_leads_somewhere() -> None:
    text = PAGE.read_text("utf-8")
    anchors = {title.lower() for title in re.findall(r"^## (\w+)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#(\w+)\)", text)) <= anchors


def test_the_guide_names_only_routes_that_there_are() -> None:
    known = {operation.route.path.partition("{")[0].rstrip("/") for operation in OPERATIONS}
    named = set(re.findall(r"`(?:GET |POST )?(/-/[a-z./]*)", GUIDE.read_text("utf-8")))
    assert {path.rstrip("/") for path in named} - {"/-/backends"} <= known
