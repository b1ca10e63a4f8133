"""Responses for HTTP/1.0, which old health checks and nginx's default towards its upstreams still speak."""

import socket
import struct
from typing import Final

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""


def without_chunks(app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
    """Answer an HTTP/1.0 request without chunks, which it does not know (RFC 9112 section 6.1): closing ends the body.

    Where such a response breaks off, the connection is reset: a plain end would look like that of a whole response.
    """

    async def unchunked(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        until_close = False

        async def send_plain(message: ASGISendEvent) -> None:
            nonlocal until_close
            if message["type"] == "http.response.start":
                until_close = all(name.lower() != b"content-length" for name, _ in message.get("headers", ()))
                if until_close:
                    cycle.chunked_encoding = False
            elif until_close and message["type"] == "http.response.body":
                cycle.expected_content_length += len(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, send_plain)
        finally:
            if until_close and not cycle.response_complete and not cycle.disconnected:
                cycle.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                cycle.transport.abort()

    return unchunked
