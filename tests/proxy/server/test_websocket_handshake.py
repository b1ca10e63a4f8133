"""The handshake of a WebSocket, as a table."""

import pytest

from proxy.kernel.asgi import Header
from proxy.server.websocket_handshake import (
    accepting_fields,
    checked_fields,
    read_handshake,
    request_fields,
    wants_websocket,
)

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
GOOD: list[Header] = [
    *((b"host", b"x"), (b"upgrade", b"websocket"), (b"connection", b"Upgrade")),
    *((b"sec-websocket-version", b"13"), (b"sec-websocket-key", KEY)),
]


def but(*fields: Header) -> list[Header]:
    names = {name for name, _ in fields}
    return [*(pair for pair in GOOD if pair[0] not in names), *(pair for pair in fields if pair[1])]


@pytest.mark.parametrize(
    ("method", "fields", "wanted"),
    [
        (b"GET", GOOD, True),
        (b"GET", but((b"upgrade", b"WebSocket"), (b"connection", b"keep-alive, upgrade")), True),
        (b"GET", but((b"upgrade", b"h2c, websocket")), True),
        (b"POST", GOOD, False),
        (b"GET", but((b"upgrade", b"h2c")), False),
        (b"GET", but((b"connection", b"keep-alive")), False),
        (b"GET", but((b"connection", b"")), False),
        (b"GET", but((b"upgrade", b"web socket;")), False),
    ],
)
def test_who_wants_to_speak_websocket(method: bytes, fields: list[Header], wanted: bool) -> None:
    assert wants_websocket(method, fields) is wanted


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (GOOD, None),
        (but((b"sec-websocket-version", b"8")), 426),
        (but((b"sec-websocket-version", b"")), 426),
        (but((b"sec-websocket-key", b"")), 400),
        (but((b"sec-websocket-key", b"AAAA")), 400),
        (but((b"sec-websocket-key", b"not base64 at all!")), 400),
        ([*GOOD, (b"sec-websocket-key", KEY)], 400),
        ([*GOOD, (b"content-length", b"2")], 400),
        ([*GOOD, (b"content-length", b"0")], None),
        ([*GOOD, (b"transfer-encoding", b"chunked")], 400),
        ([*GOOD, (b"sec-websocket-protocol", b"bearer.a, bearer.b")], 400),
        ([*GOOD, (b"connection", b"close")], 400),
    ],
)
def test_what_is_wrong_with_a_handshake(fields: list[Header], status: int | None) -> None:
    flaw = read_handshake(fields).flaw
    assert (None if flaw is None else flaw.status) == status


def test_a_token_is_no_protocol() -> None:
    offered = (b"sec-websocket-protocol", b"chat, bearer.op_a-b.c==")
    handshake = read_handshake([*GOOD, offered])
    assert (handshake.protocols, handshake.fallback) == (("chat",), "bearer.op_a-b.c==")
    assert handshake.token == "op_a-b.c=="


def test_the_chain_sees_the_token_as_a_credential_alone() -> None:
    fields = [*GOOD, (b"sec-websocket-protocol", b"bearer.t"), (b"accept-encoding", b"gzip"), (b"cookie", b"a=b")]
    credential = (b"authorization", b"Bearer t")
    assert request_fields(fields, "t") == [(b"host", b"x"), (b"cookie", b"a=b"), credential]
    assert checked_fields(fields, "t") == [
        (b"host", b"x"),
        (b"accept-encoding", b"gzip"),
        (b"cookie", b"a=b"),
        credential,
    ]
    named = [*fields, (b"authorization", b"Bearer own")]
    assert [value for name, value in request_fields(named, "t") if name == b"authorization"] == [b"Bearer own"]


def test_the_answer_is_that_of_the_rfc() -> None:
    assert (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") in accepting_fields(KEY.decode())
