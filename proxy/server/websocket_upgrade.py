"""From HTTP to WebSocket: the request that opens a socket, and the connection that changes hands when it is accepted.

The request runs like any other one, so that all that holds for a request holds for it: the checks of its head, the
time to drain, a client that leaves. Only where the application answers 101, the connection gets another protocol.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, Self

from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, ASGISendEvent, Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.kernel.asgi import Header
from proxy.kernel.websocket import OPENING, Opening, Session, Socket, SocketOptions
from proxy.server.websocket_handshake import (
    accepting_fields,
    checked_fields,
    read_handshake,
    request_fields,
    wants_websocket,
)

SWITCHING: Final = 101

Make = Callable[[Socket], Session]


class Upgrade:
    """A request to open a socket.

    Args:
        fields: the fields of the request's head.
        options: the options of the socket.

    Attributes:
        options: those options.
    """

    __slots__ = ("_begun", "_fields", "_handshake", "_make", "options")

    def __init__(self, fields: Sequence[Header], options: SocketOptions) -> None:
        self.options = options
        self._make: Make | None = None
        self._begun = False
        self._fields = fields
        self._handshake = read_handshake(fields)

    @classmethod
    def wanted(cls, method: bytes, fields: Sequence[Header], options: SocketOptions) -> Self | None:
        """Return the upgrade that a request asks for; None where it asks for none, or for another protocol."""
        return cls(fields, options) if wants_websocket(method, fields) else None

    @property
    def switches(self) -> bool:
        """Whether the response, which is complete, opened the socket."""
        return self._begun and self._make is not None

    def session(self, socket: Socket) -> Session:
        """Make the session of an upgrade that `switches`."""
        make, self._make = self._make, None  # it leads back to here
        if make is None:
            raise RuntimeError("the application has not accepted")
        return make(socket)

    def around(self, app: ASGI3Application, cycle: RequestResponseCycle) -> ASGI3Application:
        """Return `app` with the `Opening` in the scope, whose response 101 is one that opens a socket."""
        handshake, fields = self._handshake, self._fields

        async def opening(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            request: dict[str, Any] = cycle.scope  # type: ignore[assignment]
            request["state"][OPENING] = Opening(
                request["path"],
                request["query_string"],
                request_fields(fields, handshake.token),
                handshake.protocols,
                handshake.fallback,
                handshake.flaw,
                self.options,
                self._accept,
            )
            request["headers"] = checked_fields(fields, handshake.token)

            async def send_switching(message: ASGISendEvent) -> None:
                if message["type"] == "http.response.start" and message["status"] == SWITCHING:
                    cycle.chunked_encoding = False
                    message["headers"] = [*message.get("headers", ()), *accepting_fields(handshake.key)]
                    self._begun = True
                await send(message)

            await app(scope, receive, send_switching)

        return opening

    def _accept(self, make: Make) -> None:
        self._make = make
