"""The end of the chain for a request that opens a WebSocket: accept it, or say what is wrong with it."""

from functools import partial
from typing import Final

from proxy.kernel.asgi import ASGIApp, Header, Receive, Scope, Send, respond
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.errors import NotRouted
from proxy.kernel.exchange import Exchange
from proxy.kernel.websocket import OPENING, Opening
from proxy.websocket.session import SocketSession

_SHARED: Final = ("client", "server", "scheme")


class WebSockets:
    """Accepts sockets. Their requests go to `serve_by`, the frame, which is made later than the chain it runs.

    Args:
        bodies: accounts for the memory of messages.
    """

    def __init__(self, bodies: BodyBudget) -> None:
        self._bodies = bodies
        self._frame: ASGIApp | None = None

    def serve_by(self, frame: ASGIApp) -> None:
        """Let `frame` answer the requests that come over sockets."""
        self._frame = frame

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Accept the socket; raises Refused (400, 426), and for a plain GET NotRouted (405), as Ollama answers it."""
        exchange = Exchange.of(scope)
        opening: Opening | None = scope["state"].pop(OPENING, None) if "state" in scope else None
        if opening is None or self._frame is None or exchange.route is None:
            raise NotRouted(405, "405 method not allowed", headers={"allow": "POST"})
        if opening.flaw is not None:
            raise opening.flaw
        state = scope["state"]
        like = {name: scope.get(name) for name in _SHARED}
        like["state"] = {"tls_peer": state["tls_peer"]} if "tls_peer" in state else {}
        opening.accept(
            partial(
                SocketSession,
                opening=opening,
                app=self._frame,
                flavor=exchange.flavor,
                responses=exchange.route.socket == "responses",
                like=like,
                bodies=self._bodies,
                caller=exchange.caller,
            )
        )
        selected = opening.protocols[0] if opening.protocols else opening.fallback
        fields: list[Header] = [] if selected is None else [(b"sec-websocket-protocol", selected.encode("latin-1"))]
        await respond(send, 101, fields, b"")
