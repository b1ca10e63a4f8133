"""proxy/kernel/known_hosts.py."""

import socket
from ipaddress import IPv6Address
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.kernel.errors import Refused
from proxy.kernel.known_hosts import Host, KnownHosts, read_host
from proxy.testing import make_exchange

OURS = "198.51.100.7"
KNOWN = KnownHosts(["llm.example.com", "*.Corp.example", "203.0.113.9", "2001:db8::9"])


@pytest.mark.parametrize(
    "host",
    [
        # This machine
        *(
            "localhost",
            "LOCALHOST:1",
            "localhost.",
            "a.localhost",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "0.0.0.0:11435",
        ),
        *("[::]", "[::ffff:127.0.0.1]:1", socket.gethostname(), socket.gethostname().upper() + ":11435"),
        # The local network, and names that no public DNS gives out
        *("10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.5:11435", "169.254.7.7", "[fe80::1]", "[fd00::1]:1"),
        *("box.local", "ollama.corp.internal", "ollama.ai.svc.cluster.local:11435"),
        # An address of the machine
        *(OURS, OURS + ":443", f"[::ffff:{OURS}]"),
        # The policy file
        *("llm.example.com", "LLM.Example.COM.:443", "a.corp.example", "a.b.corp.example:1", "203.0.113.9"),
        "[2001:DB8:0:0::9]:11435",
    ],
)
def test_known(host: str) -> None:
    assert KNOWN.knows(host, OURS)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:11435", "proxy", "localhost.evil.example", "127.0.0.1.evil.example", "local"),
        *(
            "internal",
            "evillocal",
            "llm.example.com.evil.example",
            "xllm.example.com",
            "a.llm.example.com",
            "corp.example",
        ),
        *("evilcorp.example", ".corp.example.evil.example", "172.32.0.1", "172.15.0.1", "192.169.0.1", "11.0.0.1"),
        *("198.51.100.8", "8.8.8.8", "100.64.0.1", "[2001:db8::8]", "[::ffff:8.8.8.8]", "0.0.0.1"),
        # No host at all, or one that two readers may take for two
        *(
            "",
            ":80",
            ".",
            "localhost..",
            "localhost:http",
            "localhost:99999",
            "localhost:1:2",
            "localhost@evil.example",
        ),
        *(
            "evil.example@localhost",
            "user:localhost@evil.example",
            "[::1",
            "::1",
            "[localhost]",
            "[1]",
            "[fe80::1%25eth0]",
        ),
        *(
            "localhost/",
            "http://localhost",
            "localhost,evil.example",
            "localhost evil.example",
            "loc\u00e4lhost",
            "127.1",
        ),
        *("0x7f.0.0.1", "2130706433", "a" * 400 + ".localhost"),
    ],
)
def test_unknown(host: str) -> None:
    assert not KNOWN.knows(host, OURS)


def test_an_address_is_ours_where_the_connection_was_made_to_it() -> None:
    assert KnownHosts().knows(OURS, OURS)
    assert not KnownHosts().knows(OURS, "198.51.100.8")
    assert not KnownHosts().knows(OURS)
    assert not KnownHosts().knows("evil.example", "/run/proxy.sock")


LABEL = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.lists(LABEL, min_size=1, max_size=4).map(".".join)


@given(NAMES, st.none() | st.integers(0, 65535), st.booleans(), st.randoms(use_true_random=False))
def test_spellings_of_a_name_are_one_host(name: str, port: int | None, dot: bool, random: Random) -> None:
    spelled = "".join(random.choice([letter, letter.upper()]) for letter in name) + "." * dot
    text = spelled if port is None else f"{spelled}:{port}"
    assert read_host(text) == Host(name, port)
    assert KNOWN.knows(text) == KNOWN.knows(name)


@given(st.ip_addresses(v=6), st.none() | st.integers(0, 65535))
def test_spellings_of_an_address_are_one_host(address: IPv6Address, port: int | None) -> None:
    end = "" if port is None else f":{port}"
    forms = {f"[{text}]{end}" for text in (str(address), address.exploded, address.exploded.upper())}
    assert len({read_host(form) for form in forms}) == 1
    assert len({KNOWN.knows(form) for form in forms}) == 1


@given(st.text(max_size=40))
def test_nothing_that_is_no_host_is_known(text: str) -> None:
    if KNOWN.knows(text):
        assert read_host(text) is not None
        assert not set(text) & set("@/\\ ,?#\t\r\n")


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ([], False),  # HTTP/1.0, which no browser speaks
        ([("host", "")], False),
        ([("origin", "http://evil.example")], True),
        ([("sec-fetch-site", "none")], True),
        ([("host", "localhost:11435")], False),
        ([("host", "evil.example:11435")], True),
        ([("host", "evil example")], True),
    ],
)
def test_check(headers: list[tuple[str, str]], refused: bool) -> None:
    scope = make_exchange(headers=headers).scope
    if not refused:
        KnownHosts().check(scope)
        return
    with pytest.raises(Refused) as caught:
        KnownHosts().check(scope)
    assert (caught.value.status, caught.value.code) == (403, "unknown_host")
    assert "server.hosts" in caught.value.message


def test_the_refusal_names_a_host_that_is_one_and_nothing_else() -> None:
    def message(host: str) -> str:
        with pytest.raises(Refused) as caught:
            KnownHosts().check(make_exchange(headers=[("host", host)]).scope)
        return caught.value.message

    assert "'evil.example:1'" in message("evil.example:1")
    assert "\x1b" not in message("evil\x1b]0;owned")
    assert "owned" not in message("evil\x1b]0;owned")


def test_a_unix_socket_has_no_address() -> None:
    scope = make_exchange(headers=[("host", "evil.example")]).scope
    scope["server"] = None
    with pytest.raises(Refused):
        KnownHosts().check(scope)
