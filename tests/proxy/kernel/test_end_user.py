"""proxy/kernel/end_user.py."""

from typing import Any

import pytest

from proxy.kernel.end_user import LONGEST, named_in, usable
from proxy.kernel.errors import Flavor


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ann@example.com", "ann@example.com"),
        (" Jürgen Doe ", "Jürgen Doe"),
        ("a" * LONGEST, "a" * LONGEST),
        ("a" * (LONGEST + 1), None),
        (" " * 100_000 + "a", None),
        *((text, None) for text in ("", " ", "a\nb", "a\x1b[1m", "a\u2028b", "\u202ea", "a\x85b")),
        (None, None),
        (7, None),
        (["a"], None),
    ],
)
def test_a_name_is_short_and_can_be_printed(text: object, name: str | None) -> None:
    assert usable(text) == name


@pytest.mark.parametrize(
    ("flavor", "document", "name"),
    [
        ("openai", {"user": "ann"}, "ann"),
        ("openai", {"user": "ann", "safety_identifier": "bob"}, "bob"),
        ("openai", {"user": "ann", "safety_identifier": ""}, "ann"),
        ("openai", {"metadata": {"user_id": "ann"}}, None),
        ("anthropic", {"metadata": {"user_id": "ann"}}, "ann"),
        ("anthropic", {"metadata": ["ann"], "user": "ann"}, None),
        ("anthropic", {}, None),
        ("ollama", {"user": "ann", "metadata": {"user_id": "ann"}}, None),
        ("openai", None, None),
    ],
)
def test_each_api_has_a_place_for_it(flavor: Flavor, document: dict[str, Any] | None, name: str | None) -> None:
    assert named_in(document, flavor) == name
