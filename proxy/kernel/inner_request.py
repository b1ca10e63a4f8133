"""A request that no connection of its own brought: a message of a WebSocket, or an entry of the journal.

It passes the same frame and the same chain as any request. `inner_scope` makes its scope, and `InnerClient` stands
where the server stands for others: it has the body, takes the answer, and can leave.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from proxy.kernel.asgi import ASGIApp, Header, Message, Scope
from proxy.kernel.journal import StoredCaller
from proxy.kernel.server_extensions import REGISTER, WRITE

STORED: Final = "ollama_proxy.stored_caller"
"""The key of a scope at which the caller of a stored request is; no client can set it."""
_INNER: Final = "ollama_proxy.inner"


def inner_scope(
    method: str,
    path: str,
    *,
    query: bytes = b"",
    headers: Sequence[Header] = (),
    length: int = 0,
    client: tuple[str, int] | None = None,
    like: Scope | None = None,
    stored: StoredCaller | None = None,
) -> Scope:
    """Return the ASGI scope of an inner request.

    Args:
        method: its method.
        path: its path, decoded.
        query: its query string.
        headers: its fields, names in lower case; a length of the body is added.
        length: bytes of the body.
        client: address and port of the client.
        like: the scope of the connection that it came over, whose server, scheme and TLS facts it shares.
        stored: the caller, where it was authenticated before; `auth` looks again whether it may still call.
    """
    outer = like or {}
    state = outer.get("state", {})
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": {"ws": "http", "wss": "https"}.get(outer.get("scheme", "http"), outer.get("scheme", "http")),
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": [*headers, (b"content-length", b"%d" % length)],
        "client": client if like is None else outer.get("client"),
        "server": outer.get("server"),
        "state": {key: state[key] for key in ("tls_peer",) if key in state},
        _INNER: True,
    }
    if stored is not None:
        scope[STORED] = stored
    return scope


def stored_caller(scope: Scope) -> StoredCaller | None:
    """Return the caller of a stored request; None of a request that a client sends now."""
    stored: StoredCaller | None = scope.get(STORED)
    return stored


def is_inner(scope: Scope) -> bool:
    """Return whether a request is one that no connection of its own brought."""
    return _INNER in scope


class InnerClient:
    """The client of an inner request.

    Args:
        body: the body of the request.
        begin: called with the status and the header fields when the answer begins.
        take: takes each part of the answer; returns whether more may follow at once. Where it returns False, `room` is
            awaited before the next part.
        room: waits until there is room for more of the answer.

    Attributes:
        status: the status of the answer; None before it begins.
        complete: whether the answer ended as it should.
    """

    __slots__ = ("_begin", "_body", "_gone", "_on_gone", "_room", "_take", "complete", "status")

    def __init__(
        self,
        body: bytes,
        *,
        begin: Callable[[int, list[Header]], None],
        take: Callable[[bytes], bool],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._body: bytes | None = body
        self._begin = begin
        self._take = take
        self._room = room
        self._gone = False
        self._on_gone: Callable[[], None] | None = None
        self.status: int | None = None
        self.complete = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let `app`, the frame, answer the request of `scope`; when this returns the request has ended."""
        scope["state"][REGISTER] = self._when_gone
        scope["state"][WRITE] = self._take
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._on_gone = None  # it leads to the whole request

    def leave(self) -> None:
        """End the request, as a client does that closes its connection."""
        self._gone = True
        callback, self._on_gone = self._on_gone, None
        if callback is not None and not self.complete:
            callback()

    async def _receive(self) -> Message:
        body, self._body = self._body, None
        if body is None or self._gone:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._begin(message["status"], list(message.get("headers", ())))
            return
        body = message.get("body", b"")
        if body and not self._take(body):
            await self._room()
        if not message.get("more_body", False):
            self.complete = True

    def _when_gone(self, callback: Callable[[], None]) -> None:
        if self._gone:
            callback()
        else:
            self._on_gone = callback
