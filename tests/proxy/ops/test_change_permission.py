"""proxy/ops/change_permission.py."""

from contextlib import nullcontext
from typing import Any

import pytest

from proxy.kernel.errors import Refused
from proxy.ops.change_permission import check_change
from proxy.testing import make_exchange, suppose

LOCAL = {"client": "127.0.0.1", "host": "localhost:11435"}


@pytest.mark.parametrize(
    ("identity", "client", "headers", "code"),
    [
        # At this machine, and known to nobody
        (None, "127.0.0.1", {"host": "localhost:11435"}, None),
        (None, "127.9.9.9", {"host": "127.0.0.1"}, None),
        (None, "::1", {"host": "[::1]:11435"}, None),
        (None, "::ffff:127.0.0.1", {"host": "proxy.localhost"}, None),
        (None, "unix", {"host": "anything"}, None),
        (None, "127.0.0.1", {"host": "LOCALHOST.:11435"}, None),
        (None, "127.0.0.1", {}, "bad_host"),
        (None, "127.0.0.1", {"host": "192.168.1.5"}, "bad_host"),
        (None, "127.0.0.1", {"host": "localhost@evil.example"}, "bad_host"),
        # A page that had its own name point at this machine
        (None, "127.0.0.1", {"host": "evil.example.com"}, "bad_host"),
        (None, "127.0.0.1", {"host": "localhost.example.com"}, "bad_host"),
        (None, "127.0.0.1", {"host": "127.0.0.1.example.com"}, "bad_host"),
        # A proxy at this machine that forwards for others
        *(
            (None, "127.0.0.1", {"host": "localhost", name: "192.0.2.1"}, "identity_required")
            for name in ("x-forwarded-for", "forwarded", "x-real-ip", "via")
        ),
        # Somebody else
        (None, "192.0.2.1", {"host": "localhost"}, "identity_required"),
        (None, "fe80::1", {"host": "localhost"}, "identity_required"),
        (None, "nonsense", {"host": "localhost"}, "identity_required"),
        # Known
        ("alice", "192.0.2.1", {"host": "proxy.example.com"}, None),
        ("alice", "192.0.2.1", {"host": "proxy.example.com", "x-forwarded-for": "192.0.2.9"}, None),
        # A browser, on its own page or on another
        ("alice", "192.0.2.1", {"host": "proxy:1", "origin": "https://proxy:1"}, None),
        ("alice", "192.0.2.1", {"host": "proxy:1", "origin": "https://PROXY:1", "sec-fetch-site": "same-origin"}, None),
        ("alice", "192.0.2.1", {"host": "proxy:1", "sec-fetch-site": "none"}, None),
        ("alice", "192.0.2.1", {"host": "proxy:1", "origin": "https://evil"}, "cross_origin"),
        ("alice", "192.0.2.1", {"host": "proxy:80", "origin": "http://proxy"}, None),
        ("alice", "192.0.2.1", {"host": "proxy:1", "origin": "null"}, "cross_origin"),
        # One that may call otherwise, as Ollama allows it
        ("alice", "192.0.2.1", {"host": "localhost:11435", "origin": "http://localhost:3000"}, "cross_origin"),
        ("alice", "192.0.2.1", {"host": "proxy:1", "sec-fetch-site": "same-site"}, "cross_origin"),
        (None, "127.0.0.1", {"host": "localhost", "sec-fetch-site": "cross-site"}, "cross_origin"),
    ],
)
def test_who_may_change_something(identity: str | None, client: str, headers: dict[str, str], code: str | None) -> None:
    exchange = make_exchange("POST", "/-/reload", client=client, headers=list(headers.items()))
    suppose(exchange, identity=identity)
    expected: Any = nullcontext() if code is None else pytest.raises(Refused)
    with expected as refused:
        check_change(exchange)
    if code is not None:
        assert (refused.value.status, refused.value.code) == (403, code)


def test_a_proxy_that_is_trusted_speaks_for_others_whatever_it_says() -> None:
    """nginx as it comes names nobody it forwards for, and calls us by our local address."""
    exchange = make_exchange("POST", "/-/reload", client="127.0.0.1", headers=[("host", "127.0.0.1:11435")])
    check_change(exchange)
    suppose(exchange, relayed=True)
    with pytest.raises(Refused) as caught:
        check_change(exchange)
    assert caught.value.code == "identity_required"
