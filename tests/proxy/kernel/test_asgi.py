"""proxy/kernel/asgi.py."""

import ast
from collections import Counter
from pathlib import Path

from proxy.kernel.asgi import Header, Message, header, header_values, respond, without

HEADERS: list[Header] = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]


def test_header_is_the_first() -> None:
    assert header(HEADERS, b"a") == b"1"
    assert header(HEADERS, b"c") is None


def test_header_values_are_all_in_order() -> None:
    assert header_values(HEADERS, b"a") == [b"1", b"3"]
    assert header_values(HEADERS, b"c") == []


def test_without_keeps_order_and_duplicates() -> None:
    assert without(HEADERS, frozenset({b"b", b"c"})) == [(b"a", b"1"), (b"a", b"3")]
    assert without(HEADERS, frozenset()) == HEADERS


async def test_a_response_is_its_beginning_and_its_body() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await respond(send, 418, HEADERS, b"tea")
    assert sent == [
        {"type": "http.response.start", "status": 418, "headers": HEADERS},
        {"type": "http.response.body", "body": b"tea", "more_body": False},
    ]


ROOT = Path(__file__).parents[3]
BEGINS = {"proxy/kernel/asgi.py": 1, "proxy/chain/frame.py": 1}
"""Where a response begins, and where the frame writes it anew with its own fields."""


def test_every_response_begins_in_one_function() -> None:
    found: Counter[str] = Counter()
    for package in ("proxy", "middleware"):
        for path in (ROOT / package).rglob("*.py"):
            if "simulator" in path.parts:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Dict) and '"http.response.start"' in map(_text, node.values):
                    found[str(path.relative_to(ROOT))] += 1
    assert found == BEGINS


def _text(node: ast.expr) -> str:
    return ast.unparse(node).replace("'", '"')
