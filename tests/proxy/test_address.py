"""proxy/address.py."""

from ipaddress import ip_network

import pytest

from proxy.address import client_address
from proxy.asgi import Scope

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


def scope(peer: str | None, *forwarded: str) -> Scope:
    return {
        "client": (peer, 1) if peer else None,
        "headers": [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded],
    }


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9, 10.0.0.7"], "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", ["1.1.1.1, junk"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, junk, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["203.0.113.9"], "203.0.113.9"),
        (None, ["203.0.113.9"], "203.0.113.9"),
        (None, [], "unix"),
    ],
)
def test_address(peer: str | None, forwarded: list[str], expected: str) -> None:
    assert client_address(scope(peer, *forwarded), TRUSTED) == expected


def test_nothing_is_believed_where_nobody_is_trusted() -> None:
    assert client_address(scope("10.0.0.1", "203.0.113.9"), []) == "10.0.0.1"
    assert client_address(scope(None, "203.0.113.9"), []) == "unix"
