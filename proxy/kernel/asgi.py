"""ASGI names and the few header helpers the whole project shares.

Headers are what ASGI says they are: a list of ``(lower-case name, value)`` pairs of bytes, in order, with duplicates.
"""

from collections.abc import Awaitable, Iterable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "UNBUFFERED",
    "ASGIApp",
    "Header",
    "Message",
    "Receive",
    "Scope",
    "Send",
    "has_body",
    "header",
    "header_values",
    "over",
    "respond",
    "start_response",
    "without",
]

Header = tuple[bytes, bytes]

UNBUFFERED: Final[Header] = (b"x-accel-buffering", b"no")
"""The field by which nginx passes a stream on as it comes; left to itself it collects the answer. Others ignore it."""


def header(headers: Iterable[Header], name: bytes) -> bytes | None:
    """Return the first value of `name` (lower case), or None."""
    for key, value in headers:
        if key == name:
            return value
    return None


def header_values(headers: Iterable[Header], name: bytes) -> list[bytes]:
    """Return every value of `name` (lower case), in order."""
    return [value for key, value in headers if key == name]


def has_body(scope: Scope) -> bool:
    """Return whether a request has a body, or may have one."""
    headers = scope["headers"]
    length = header(headers, b"content-length")
    return length not in (None, b"0") or header(headers, b"transfer-encoding") is not None


def without(headers: Iterable[Header], names: frozenset[bytes]) -> list[Header]:
    """Return the headers whose name is not in `names` (lower case), order and duplicates kept."""
    return [pair for pair in headers if pair[0] not in names]


def start_response(send: Send, status: int, headers: list[Header]) -> Awaitable[None]:
    """Begin a response, and return the server's own awaitable; all of ours but Starlette's in ``proxy/ops`` begin here.

    `status` and `headers` are what the caller gets; the frame adds its own fields on the way out.
    """
    return send({"type": "http.response.start", "status": status, "headers": headers})


async def respond(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    """Send a whole response."""
    await start_response(send, status, headers)
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def over() -> Message:
    """Stand for `receive` once a request is over."""
    return {"type": "http.disconnect"}
