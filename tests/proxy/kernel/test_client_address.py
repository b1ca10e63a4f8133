"""proxy/kernel/client_address.py."""

from ipaddress import ip_address, ip_network

import pytest

from proxy.kernel import client_address as module
from proxy.kernel.asgi import Scope
from proxy.kernel.client_address import block, client_address, is_forwarded, is_trusted, read_address

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
        ("10.0.0.1", ["unix"], "10.0.0.1"),
        ("10.0.0.1", ["1.1.1.1, unix, 10.0.0.2"], "10.0.0.2"),
        (None, ["203.0.113.9"], "unix"),
        (None, [], "unix"),
    ],
)
def test_address(peer: str | None, forwarded: list[str], expected: str) -> None:
    assert client_address(scope(peer, *forwarded), TRUSTED) == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        (None, ["203.0.113.9"], "203.0.113.9"),
        (None, ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        (None, ["203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        (None, ["unix"], "unix"),
        (None, [], "unix"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("192.0.2.1", ["unix"], "192.0.2.1"),
    ],
)
def test_who_calls_by_a_unix_socket_is_believed_only_where_that_is_said(
    peer: str | None, forwarded: list[str], expected: str
) -> None:
    assert client_address(scope(peer, *forwarded), ["unix", *TRUSTED]) == expected


@pytest.mark.parametrize(
    ("peer", "trusted"), [("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("192.0.2.1", False), (None, False)]
)
def test_the_peer_itself_may_be_a_trusted_proxy(peer: str | None, trusted: bool) -> None:
    assert is_trusted(scope(peer), TRUSTED) == trusted
    assert is_trusted(scope(peer), ["unix", *TRUSTED]) == (trusted or peer is None)
    assert not is_trusted(scope(peer), [])


def test_nothing_is_believed_where_nobody_is_trusted() -> None:
    assert client_address(scope("10.0.0.1", "203.0.113.9"), []) == "10.0.0.1"
    assert client_address(scope(None, "203.0.113.9"), []) == "unix"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:c000:207", "192.0.2.7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::", "::"),
    ],
)
def test_an_address_is_read_in_every_spelling(text: str, address: str) -> None:
    assert read_address(text) == ip_address(address)


@pytest.mark.parametrize("text", ["", "unix", "localhost", "192.0.2.7:80", "[::1]", "192.0.2", "0x7f.1", "192.0.2.07"])
def test_what_is_no_address(text: str) -> None:
    assert read_address(text) is None


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"via"])
def test_whoever_forwards_says_so(name: bytes) -> None:
    assert is_forwarded({"headers": [(b"host", b"x"), (name, b"")]})
    assert not is_forwarded({"headers": [(b"host", name)]})


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_an_ipv6_address_counts_by_its_64(address: str, counted: str) -> None:
    assert block(address) == counted


def test_text_that_is_too_long_for_an_address_is_not_remembered() -> None:
    kept = module._read.cache_info().currsize, module._block.cache_info().currsize
    for text in ("fe80::1%" + "x" * 60_000, "1" * 60_000):
        assert module.read_address(text) is None
        assert module.block(text) == text
    assert (module._read.cache_info().currsize, module._block.cache_info().currsize) == kept
    assert module.read_address("fe80:0000:0000:0000:0000:0000:0000:0001%abcdefghijklmno") is not None
