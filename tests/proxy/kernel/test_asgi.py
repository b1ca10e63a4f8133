"""proxy/kernel/asgi.py."""

from proxy.kernel.asgi import Header, header, header_values, without

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
