"""Requests as the frame hands them to a plugin, without a server and without a socket."""

import time
from collections.abc import Sequence
from typing import Any, Final, cast

from config.load import load_data
from config.settings import Settings
from proxy.kernel.asgi import Header, Message, Receive, Scope
from proxy.kernel.body_budget import BodyBudget
from proxy.kernel.exchange import KEY, PARTS, Exchange
from proxy.kernel.routes import RouteTable
from proxy.wiring import body_bounds

ROUTES: Final = RouteTable()
"""The routes of Ollama, without any that a policy file adds."""
SETTINGS: Final = cast(Settings, load_data({"backends": [{"name": "b1", "url": "http://127.0.0.1:1"}]}).settings)
"""What a policy file comes to that names one backend and leaves all else as it is by default."""


def make_exchange(
    method: str = "POST",
    path: str = "/api/chat",
    *,
    body: bytes | Sequence[bytes] = b"",
    headers: Sequence[tuple[str, str]] = (),
    client: str = "127.0.0.1",
    query: bytes = b"",
    started_at: float | None = None,
    bodies: BodyBudget | None = None,
    **noted: Any,
) -> Exchange:
    """Return an exchange as the frame makes it; its `scope` is what a plugin is called with.

    Args:
        method: of the request.
        path: its path, which decides the route.
        body: its body. One that is given in parts arrives in as many messages; then the client disconnects.
        headers: its header fields; names may have capitals.
        client: the address that it comes from.
        query: what stands behind the question mark.
        started_at: when the request began, seconds of `Clock.monotonic`; now where None.
        bodies: the memory that bodies may take; where None a budget of its own, with the default bounds.
        noted: what is known of the request already, see `suppose`; such as ``tenant="physics"``, as `auth` would.
    """
    raw: list[Header] = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": raw,
        "client": (client, 12345),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    exchange = Exchange(
        scope,
        _source(body),
        id="test",
        routes=ROUTES,
        client=client,
        started_at=time.monotonic() if started_at is None else started_at,
        bodies=bodies or BodyBudget(**body_bounds(SETTINGS)),
    )
    scope[KEY] = exchange
    return suppose(exchange, **noted)


def suppose(exchange: Exchange, **noted: Any) -> Exchange:
    """Note in an exchange what the writers of its attributes would; return it.

    Args:
        exchange: to note it in.
        noted: values by the names of attributes, such as ``identity="ann"``, ``status=200``.

    Raises:
        AttributeError: for what is no attribute of an exchange.
    """
    for name, value in noted.items():
        owner = next((kind for kind in PARTS if name in kind.__annotations__), None)
        if owner is not None:
            setattr(exchange.part(owner), name, value)
        elif not isinstance(getattr(Exchange, name, None), property):
            raise AttributeError(f"an exchange has no attribute {name}")
        elif hasattr(exchange._body, name):
            setattr(exchange._body, name, value)
        else:
            setattr(exchange, f"_{name}", value)
    return exchange


def _source(body: bytes | Sequence[bytes]) -> Receive:
    parts = [body] if isinstance(body, bytes) else list(body)
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, start=1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return receive
