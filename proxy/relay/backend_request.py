"""Make the `httpx.Request` for a backend: the caller's body, the headers, and the time-outs."""

from collections.abc import AsyncIterator

import httpx

from proxy.kernel.asgi import Header, Receive, Scope, header
from proxy.kernel.errors import ClientGone
from proxy.kernel.exchange import Exchange
from proxy.kernel.routes import Match
from proxy.pool.backend import Backend
from proxy.relay.hop_headers import upstream_headers
from proxy.upstream.timeouts import Timeouts


class Body:
    """The body of a request to a backend, with the header field that gives its length or encoding.

    Attributes:
        stream: the body; `httpx.ByteStream` where it is in memory.
        framing: Content-Length or Transfer-Encoding; None where the request has no body.
        content: the body itself where it is in memory, else None.
    """

    __slots__ = ("content", "framing", "stream")

    def __init__(self, stream: httpx.AsyncByteStream, framing: Header | None, content: bytes | None = None) -> None:
        self.stream = stream
        self.framing = framing
        self.content = content


async def read_body(exchange: Exchange, match: Match, receive: Receive) -> Body:
    """Return the body for the backend: passed on as it comes for a raw route, else read whole.

    Where a middleware above has rewritten the body, `receive` returns the rewritten one. Raises ClientGone, and Refused
    where the body is not accepted.
    """
    scope = exchange.scope
    if match.route.body == "raw":
        return Body(_Upload(receive), _framing_of(scope))
    content = await exchange.body() if receive == exchange.receive else await _collected(receive)
    has_length = bool(content) or scope["method"] == "POST"
    return Body(httpx.ByteStream(content), (b"content-length", b"%d" % len(content)) if has_length else None, content)


def backend_request(
    exchange: Exchange, match: Match, backend: Backend, body: Body, *, via: bytes, timeouts: Timeouts
) -> httpx.Request:
    """Return the request for `backend`; a request that must not be repeated gets a fresh connection."""
    scope = exchange.scope
    headers = upstream_headers(
        scope,
        host=backend.host,
        via=via,
        client=exchange.client,
        request_id=exchange.id,
        added=backend.headers,
    )
    if body.framing is not None:
        headers.append(body.framing)
    extensions = {
        "target": match.target,
        "timeout": timeouts,
        "fresh": match.route.repeat == "never" or bool(exchange.failed),
    }
    return httpx.Request(scope["method"], backend.url, headers=headers, stream=body.stream, extensions=extensions)


async def _collected(receive: Receive) -> bytes:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


class _Upload(httpx.AsyncByteStream):
    """A request body that is passed on as it comes; for blobs, which are unbounded."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body: bytes = message.get("body", b"")
            if body:
                yield body
            if not message.get("more_body", False):
                return


def _framing_of(scope: Scope) -> Header:
    length = header(scope["headers"], b"content-length")
    return (b"transfer-encoding", b"chunked") if length is None else (b"content-length", length)
