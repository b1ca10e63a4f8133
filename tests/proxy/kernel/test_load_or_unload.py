"""proxy/kernel/load_or_unload.py; what becomes of such requests is in tests/live/test_load_and_unload.py."""

import pytest

from proxy.kernel.load_or_unload import bare_member, load_or_unload
from proxy.testing import make_exchange


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        ("/api/generate", b'{"model":"m"}', "load"),
        ("/api/generate", b'{"model":"m","prompt":"","system":"s"}', "load"),
        ("/api/generate", b'{"model":"m","prompt":null,"keep_alive":null}', "load"),
        ("/api/generate", b'{"model":"m","keep_alive":"-1ns"}', "load"),
        ("/api/generate", b'{"model":"m","keep_alive":"soon"}', "load"),
        ("/api/generate", b'{"model":"m","keep_alive":0}', "unload"),
        ("/api/generate", b'{"model":"m","keep_alive":"-0.9ns"}', "unload"),
        ("/api/generate", b'{"model":"m","messages":[{}],"keep_alive":0}', "unload"),
        ("/api/generate", b'{"model":"m","prompt":" ","keep_alive":0}', None),
        ("/api/chat", b'{"model":"m","messages":[]}', "load"),
        ("/api/chat", b'{"model":"m","prompt":"hi","keep_alive":"0h"}', "unload"),
        ("/api/chat", b'{"model":"m","messages":[{}],"keep_alive":0}', None),
        ("/api/chat", b'{"model":"m","MESSAGES":[{}],"keep_alive":0}', None),
        ("/api/chat", b'{"model":"m","messages":[{}],"messages":null}', None),
        ("/api/chat", b"not JSON", None),
        ("/api/embed", b'{"model":"m","keep_alive":0}', None),
        ("/v1/completions", b'{"model":"m","keep_alive":0}', None),
        ("/nothing", b'{"model":"m","keep_alive":0}', None),
    ],
)
async def test_what_a_request_asks_for(path: str, body: bytes, found: str | None) -> None:
    exchange = make_exchange("POST", path, body=body)
    assert load_or_unload(exchange) is None  # its body was not read
    await exchange.body()
    assert load_or_unload(exchange) == found


async def test_a_long_body_is_no_mystery() -> None:
    exchange = make_exchange("POST", "/api/generate", body=b'{"model":"m","keep_alive":0,"x":"%s"}' % (b"x" * 100_000))
    await exchange.body()
    assert load_or_unload(exchange) == "unload"


@pytest.mark.parametrize(
    ("path", "member"),
    [("/api/generate", "prompt"), ("/api/chat", "messages"), ("/api/embed", None), ("/api/pull", None)],
)
def test_which_routes_have_such_requests(path: str, member: str | None) -> None:
    assert bare_member(make_exchange("POST", path).route) == member
    assert bare_member(None) is None
