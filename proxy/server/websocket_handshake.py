"""The handshake of a WebSocket (RFC 6455 section 4.2), as pure functions over the fields of a request."""

import base64
import binascii
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from websockets.exceptions import InvalidHeader
from websockets.headers import parse_connection, parse_subprotocol, parse_upgrade
from websockets.utils import accept_key

from proxy.kernel import error_codes as codes
from proxy.kernel.asgi import Header, header, header_values, without
from proxy.kernel.errors import Refused
from proxy.kernel.websocket import BEARER

VERSION: Final = b"13"
_KEY_BYTES: Final = 16
_OF_THE_CONNECTION: Final = frozenset(
    {
        *(b"connection", b"upgrade", b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol"),
        *(b"sec-websocket-extensions", b"keep-alive", b"te", b"expect"),
    }
)
"""Fields that say nothing about the requests that come over the socket."""
_OF_ONE_REQUEST: Final = frozenset(
    {
        *(b"content-length", b"content-type", b"transfer-encoding", b"content-encoding", b"accept", b"accept-encoding"),
        *(b"range", b"prefer", b"idempotency-key"),
    }
)
"""Fields that would mean something else for each message: an answer is read line by line, so it is not compressed."""


class Handshake(NamedTuple):
    """A handshake that was read.

    Attributes:
        key: its Sec-WebSocket-Key.
        protocols: the subprotocols that it offers, without those that hold a token.
        fallback: the one that holds a token, None where there is none.
        token: that token.
        flaw: why it cannot be accepted; None where it can.
    """

    key: str
    protocols: tuple[str, ...]
    fallback: str | None
    token: str | None
    flaw: Refused | None


def wants_websocket(method: bytes, fields: Sequence[Header]) -> bool:
    """Return whether a request asks to speak WebSocket. Any other Upgrade is ignored (RFC 9110 section 7.8)."""
    if method != b"GET":
        return False
    upgrades = [name.lower() for value in header_values(fields, b"upgrade") for name in _read(parse_upgrade, value)]
    options = [
        name.lower() for value in header_values(fields, b"connection") for name in _read(parse_connection, value)
    ]
    return "websocket" in upgrades and "upgrade" in options


def read_handshake(fields: Sequence[Header]) -> Handshake:
    """Read the fields of a request for which `wants_websocket` is True."""
    offered = [name for value in header_values(fields, b"sec-websocket-protocol") for name in _protocols(value)]
    tokens = [name for name in offered if name.startswith(BEARER)]
    keys = header_values(fields, b"sec-websocket-key")
    flaw = None
    if header_values(fields, b"sec-websocket-version") != [VERSION]:
        known = {"sec-websocket-version": VERSION.decode(), "upgrade": "websocket"}
        message = "only version 13 of the WebSocket protocol is spoken here (Sec-WebSocket-Version)"
        flaw = Refused(426, message, code=codes.UPGRADE_REQUIRED, headers=known)
    elif len(keys) != 1 or not _is_key(keys[0]):
        flaw = Refused(400, "the handshake needs one Sec-WebSocket-Key of 16 bytes in base64")
    elif header(fields, b"transfer-encoding") is not None or header(fields, b"content-length") not in (None, b"0"):
        flaw = Refused(400, "a handshake has no body")
    elif any(b"close" in value.lower() for value in header_values(fields, b"connection")):
        flaw = Refused(400, "a handshake cannot ask to close its connection (Connection: close)")
    elif len(tokens) > 1:
        flaw = Refused(400, "the handshake has more than one bearer token in Sec-WebSocket-Protocol")
    return Handshake(
        keys[0].decode("latin-1").strip() if keys else "",
        tuple(name for name in offered if not name.startswith(BEARER)),
        tokens[0] if tokens else None,
        tokens[0].removeprefix(BEARER) if tokens else None,
        flaw,
    )


def request_fields(fields: Iterable[Header], token: str | None) -> list[Header]:
    """Return the fields with which a request over the socket is made, the token as its credential.

    A token beside an Authorization field does not count: the field says who calls.
    """
    kept = without(fields, _OF_THE_CONNECTION | _OF_ONE_REQUEST)
    return kept if token is None or header(kept, b"authorization") else [*kept, _authorization(token)]


def checked_fields(fields: Iterable[Header], token: str | None) -> list[Header]:
    """Return the fields of the handshake itself as the chain sees them: those of HTTP, and the token as a credential.

    Nothing behind the server sees the token in Sec-WebSocket-Protocol.
    """
    kept = without(fields, _OF_THE_CONNECTION)
    return kept if token is None or header(kept, b"authorization") else [*kept, _authorization(token)]


def accepting_fields(key: str) -> list[Header]:
    """Return the fields by which the handshake with that key is accepted."""
    return [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(key).encode()),
    ]


def _authorization(token: str) -> Header:
    return b"authorization", b"Bearer " + token.encode("latin-1")


def _read(parse: Callable[[str], Sequence[str]], value: bytes) -> list[str]:
    try:
        return list(parse(value.decode("latin-1")))
    except InvalidHeader:
        return []


def _protocols(value: bytes) -> list[str]:
    """Return the subprotocols of a field; tokens may have characters that no subprotocol has, such as ``=``."""
    names = _read(parse_subprotocol, value)
    return names or [name for part in value.decode("latin-1").split(",") if (name := part.strip(" \t"))]


def _is_key(value: bytes) -> bool:
    try:
        return len(base64.b64decode(value.strip(), validate=True)) == _KEY_BYTES
    except binascii.Error:
        return False
